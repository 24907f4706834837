"""Pickled weights, told by how they begin: opening one can run any program, so none is ever opened."""

import re
from pathlib import Path

SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""What pickled weights are usually called."""
PICKLE = re.compile(
    rb"\x80[\x02-\x05]"  # protocols 2 to 5
    rb"|\(?c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n|\([dl]p\d|[}\])]q",  # protocols 0 and 1: a function, or a container
    re.DOTALL,
)
ZIP = b"PK\x03\x04"
"""How the archive begins that torch.save puts its pickle into."""
WAY_OUT = (
    "Opening a pickle can run any program, so Fathom never does. Take the model's safetensors files instead or, where "
    "you trust this one, make them with transformers: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)."
)


def is_pickle(path: Path) -> bool:
    """Whether `path` begins as pickles do, zipped ones too, and not as a safetensors file."""
    with open(path, "rb") as file:
        head = file.read(256)
    return head[8:9] != b"{" and (head.startswith(ZIP) or PICKLE.match(head) is not None)


def refusal(path: Path) -> str:
    """What to tell those who gave the pickle `path` for a model."""
    with open(path, "rb") as file:
        zipped = file.read(4) == ZIP
    return f"{path}: is a pickle{' in a zip archive, as torch.save writes it' if zipped else ''}. {WAY_OUT}"
