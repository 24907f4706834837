"""The `[train.teacher]` part of a recipe: distillation while training on plain text."""

from pathlib import Path

from pydantic import Field

from fathom.config.base import Section


class TeacherConfig(Section):
    """A finished model whose predictions are learned, beside the text or instead of it."""

    folder: Path
    """Its folder, or a name that `fathom models` lists; with the corpus's tokenizer. Every process holds it whole."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Share of the main loss that is the KL divergence of the model's next-token distribution from the teacher's, over
    the whole vocabulary (Hinton et al. 2015, temperature 1); the rest is the text's cross-entropy. With 0 the distance
    is only told."""
