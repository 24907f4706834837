"""What comes out of a model, told apart."""

from dataclasses import dataclass, replace
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thoughts."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """The model begins to call a function."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the arguments of call `index`."""

    index: int
    text: str


Event = Reasoning | Content | CallBegin | CallArguments


def joined(events: list[Event]) -> list[Event]:
    """Join neighbours that continue each other."""
    result: list[Event] = []
    for (kind, _), group in groupby(events, lambda event: (type(event), getattr(event, "index", 0))):
        if kind is CallBegin:
            result += group
            continue
        first, *more = group
        assert not isinstance(first, CallBegin)
        result.append(replace(first, text="".join((first.text, *(event.text for event in more)))) if more else first)  # type: ignore[union-attr]
    return result
