"""Hugging Face model folders, in and out."""
