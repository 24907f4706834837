"""How good a model is: bits per byte of held-out text, beside a general compressor."""
