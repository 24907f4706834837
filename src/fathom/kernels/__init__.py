"""The hot operations, each with a plain reference beside its faster forms."""
