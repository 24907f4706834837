"""Where Fathom keeps what it can make or fetch again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where Fathom keeps what it can make or fetch again: FATHOM_CACHE, or the user's cache folder."""
    base = os.environ.get("FATHOM_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fathom"
