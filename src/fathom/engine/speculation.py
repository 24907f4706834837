"""Which way of guessing ahead an engine uses."""

from typing import TYPE_CHECKING, Literal, get_args

from fathom.errors import GenerationError

if TYPE_CHECKING:
    from fathom.engine.drafting import Drafter
    from fathom.model.transformer import Transformer

Speculation = Literal["off", "auto", "mtp", "lookup"]
KINDS = get_args(Speculation)


def resolve(kind: Speculation, model: "Transformer") -> Speculation:
    """What "auto" stands for: the MTP module where the model has one, and else the text itself."""
    modules = model.config.num_nextn_predict_layers
    if kind == "mtp" and not modules:
        raise GenerationError('speculation is "mtp" and the model has no MTP module: "lookup" needs none.')
    if kind == "auto":
        return "mtp" if modules else "lookup"
    return kind


def make_drafter(
    kind: Speculation, model: "Transformer", longest: int, *, adaptive: bool = True, vocabulary: int | None = None
) -> "Drafter | None":
    """The drafter of a kind, with at most `longest` guesses for each sequence and step; None where it is off.

    An MTP module need guess tokens below `vocabulary` alone.
    """
    resolved = resolve(kind, model)
    if resolved == "mtp":
        from fathom.engine.mtp_drafter import MTPDrafter

        return MTPDrafter(model, longest, adaptive=adaptive, vocabulary=vocabulary)
    if resolved == "lookup":
        from fathom.engine.lookup import LookupDrafter

        return LookupDrafter(longest, adaptive=adaptive)
    return None
