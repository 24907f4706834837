"""A Hugging Face model folder: `load` one, `save` one."""

from fathom.weights.load import load, read_config
from fathom.weights.save import save

__all__ = ["load", "read_config", "save"]
