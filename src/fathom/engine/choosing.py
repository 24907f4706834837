"""From a step's logits to the tokens that follow, guesses verified: each sequence on its own, all of them at once."""

from array import array
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.accept import error_line
from fathom.engine.request import Sequence
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.engine.rows import Row, Sampled


class Pick(NamedTuple):
    """A sequence that is to go on, with the guesses it read beside its last token."""

    sequence: Sequence
    row: int
    """Its first row of the step's logits; each guess has the next one."""
    guesses: Many[int]


class Chosen(NamedTuple):
    """What follows."""

    sequence: Sequence
    results: list["Sampled"]
    """At least one token, unless there is an error: the guesses that came true and the one after them."""
    accepted: int
    error: str


def choose(logits: "Tensor", picks: Many[Pick]) -> list[Chosen]:
    """Draw for every pick from logits (rows, V).

    A token is drawn from its own place's numbers whether it was guessed or not, so a guess is right exactly when it is
    what would have been drawn without it: verification changes nothing but the number of steps.
    """
    try:
        plainly = _chosen_plainly(logits, picks)
    except Exception:
        plainly = None  # below, whoever failed does so alone
    if plainly is not None:
        return plainly
    rows: list[Row] = []
    places: list[int] = []
    lengths: list[int] = []
    errors: dict[int, str] = {}
    for n, pick in enumerate(picks):
        try:
            made = _rows(pick)
        except Exception as error:
            made, errors[n] = [], error_line(error)
        rows += made
        places += range(pick.row, pick.row + len(made))
        lengths.append(len(made))
    drawn = iter(_sample(logits if places == list(range(len(logits))) else logits[places], rows))
    return [
        _verified(pick, [next(drawn) for _ in range(length)], errors.get(n, ""))
        for n, (pick, length) in enumerate(zip(picks, lengths, strict=True))
    ]


def _chosen_plainly(logits: "Tensor", picks: Many[Pick]) -> list[Chosen] | None:
    """The same in one native call, where every sequence asks for nothing but tokens; None where one asks for more."""
    from fathom.engine.rows import Sampled
    from fathom.engine.sampler import enter
    from fathom.kernels.draw import draw, usable

    wholes, reals = array("q"), array("d")
    places: list[int] = []
    for sequence, row, guesses in picks:
        state = sequence.state
        assert state is not None
        params = state.params
        if not state.plain or params.logprobs is not None or params.record_kept:
            return None
        for place in range(len(guesses) + 1):
            enter(state.key(place) if params.temperature else 0, params, wholes, reals)
            places.append(row + place)
    if not usable(logits):
        return None
    tokens, logprobs = draw(logits if places == list(range(len(logits))) else logits[places], wholes, reals)
    if min(tokens) < 0:
        return None
    chosen: list[Chosen] = []
    at = 0
    for sequence, _, guesses in picks:
        accepted = 0
        while accepted < len(guesses) and tokens[at + accepted] == guesses[accepted]:
            accepted += 1
        results = [Sampled(tokens[i], logprobs[i]) for i in range(at, at + accepted + 1)]
        chosen.append(Chosen(sequence, results, accepted, ""))
        at += len(guesses) + 1
    return chosen


def _rows(pick: Pick) -> list["Row"]:
    state = pick.sequence.state
    assert state is not None
    rows = [state.row()]
    pushed = 0
    try:
        for guess in pick.guesses:
            state.push(guess)
            pushed += 1
            rows.append(state.row())
    finally:
        state.pop(pushed)
    return rows


def _sample(logits: "Tensor", rows: list["Row"]) -> "list[Sampled | GenerationError]":
    """As `sample`; what fails for all together is tried for each alone, so that a bad one is alone in its failure."""
    from fathom.engine.sampler import sample

    try:
        return sample(logits, rows) if rows else []
    except Exception as error:
        if len(rows) == 1:
            return [GenerationError(error_line(error))]
        return [_sample(logits[i : i + 1], rows[i : i + 1])[0] for i in range(len(rows))]


def _verified(pick: Pick, drawn: "list[Sampled | GenerationError]", error: str) -> Chosen:
    results: list[Sampled] = []
    accepted = 0
    for place, result in enumerate(drawn):
        if isinstance(result, GenerationError):
            error = str(result)
            break
        results.append(result)
        if place == len(pick.guesses) or result.token != pick.guesses[place]:
            break
        accepted += 1
    return Chosen(pick.sequence, results, accepted, error)
