"""Which documents are held out: chosen by the hash of their text, evenly across the sources of a language group."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the choice depends on."""

    source: int
    group: str
    digest: bytes
    text_bytes: int


def held_out(documents: Sequence[Weighed], target_bytes: int, largest_share: float) -> set[int]:
    """Indices of the documents to hold out: about `target_bytes` a group, at most `largest_share` of it.

    Each source gives in proportion to its size, lowest hashes first. A group of two documents or more gives at least
    one where anything is asked for, and never gives all. Documents of the same text stay together.
    """
    by_group: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, document in enumerate(documents):
        by_group[document.group][document.source].append(index)
    chosen: set[int] = set()
    for sources in by_group.values():
        everyone = [index for members in sources.values() for index in members]
        total = sum(documents[index].text_bytes for index in everyone)
        share = min(largest_share, target_bytes / max(total, 1))
        taken: set[int] = set()
        for members in sources.values():
            taken |= _lowest(documents, members, share * sum(documents[index].text_bytes for index in members))
        if not taken and share > 0 and len(everyone) > 1:
            taken = {min(everyone, key=lambda index: documents[index].digest)}
        digests = {documents[index].digest for index in taken}
        taken = {index for index in everyone if documents[index].digest in digests}
        if len(taken) < len(everyone):
            chosen |= taken
    return chosen


def _lowest(documents: Sequence[Weighed], members: list[int], quota: float) -> set[int]:
    """Documents in the order of their hashes while at least half of the next one fits into `quota` bytes."""
    taken: set[int] = set()
    room = quota
    for index in sorted(members, key=lambda index: documents[index].digest):
        if documents[index].text_bytes / 2 > room or len(taken) + 1 == len(members):
            break
        taken.add(index)
        room -= documents[index].text_bytes
    return taken
