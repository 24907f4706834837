"""A sequence takes the tokens drawn for it, one by one, until it ends."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.request import FinishReason, Sequence
from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.engine.rows import Sampled


class News(NamedTuple):
    """What a step added to a sequence."""

    results: "tuple[Sampled, ...]" = ()
    text: str = ""


def accept(sequence: Sequence, results: "Iterable[Sampled]") -> News:
    """Append tokens; sets `finish` at the one that ends the sequence, and leaves out those after it.

    A token that the sequence's own rules cannot follow is left out too, and `error` says why.
    """
    taken: list[Sampled] = []
    pieces: list[str] = []
    assert sequence.state is not None
    for result in results:
        token = result.token
        try:
            sequence.state.push(token)
        except Exception as error:
            sequence.error = error_line(error)
            break
        taken.append(result)
        sequence.tokens.append(token)
        if token in sequence.stops:
            sequence.finish = FinishReason.STOP
        else:
            if sequence.text:
                pieces.append(sequence.text.push(token))
            sequence.finish = _reason(sequence)
        if sequence.finish is not None:
            pieces.append(ending(sequence))
            break
    sequence.results += taken
    return News(tuple(taken), "".join(pieces))


def ending(sequence: Sequence) -> str:
    """The text that was held back, once a sequence has its `finish`."""
    if sequence.text is None:
        return ""
    rest = sequence.text.finish()
    if sequence.text.stopped and sequence.finish is FinishReason.LENGTH:
        sequence.finish = FinishReason.STOP
    return rest


def _reason(sequence: Sequence) -> FinishReason | None:
    complete = sequence.state is not None and sequence.state.finished
    if complete or (sequence.text is not None and sequence.text.stopped):
        return FinishReason.STOP
    return FinishReason.LENGTH if sequence.generated >= sequence.limit else None


def error_line(error: Exception) -> str:
    """What to tell whoever asked: our own errors are written to be read, of others the kind matters too."""
    return str(error) if isinstance(error, FathomError) else f"{type(error).__name__}: {error}"
