"""A run folder, told as one self-contained page."""
