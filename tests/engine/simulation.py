"""A scheduler with a model that only remembers: every row is a fingerprint of all tokens up to its own.

So a row read through a wrong block, overwritten by a neighbour or left over from somebody else is seen at once, and the
right continuation of every prompt is known beforehand.
"""

from dataclasses import dataclass
from random import Random

from fathom.engine.blocks import BlockManager
from fathom.engine.chunks import Chunk
from fathom.engine.request import FinishReason, Request, Sequence
from fathom.engine.sampling import SamplingParams
from fathom.engine.scheduler import Scheduler

VOCABULARY = 3
START = 7
"""The fingerprint of no tokens."""


def fingerprint(before: int, token: int) -> int:
    return (before * 1_000_003 + token + 1) % (2**61 - 1)


def fingerprints(tokens: list[int]) -> list[int]:
    rows, row = [], START
    for token in tokens:
        rows.append(row := fingerprint(row, token))
    return rows


def next_token(row: int, index: int) -> int:
    """What comes after a history, in completion `index` of its request."""
    return (row >> 7) % 97 * (index + 1) % VOCABULARY


def continuation(prompt: list[int], count: int, index: int = 0) -> list[int]:
    tokens = list(prompt)
    row = fingerprints(tokens)[-1]
    for _ in range(count):
        tokens.append(token := next_token(row, index))
        row = fingerprint(row, token)
    return tokens[len(prompt) :]


class MemoryShelf:
    """Keeps a copy of rows that idle blocks hold, and loses some."""

    def __init__(self, rows: dict[int, int], block_size: int, random: Random) -> None:
        self._rows, self._size, self._random = rows, block_size, random
        self._kept: dict[bytes, list[int]] = {}

    def put(self, key: bytes, block: int) -> None:
        self._kept[key] = [self._rows[block * self._size + i] for i in range(self._size)]

    def has(self, key: bytes) -> bool:
        return key in self._kept

    def get(self, key: bytes, block: int) -> bool:
        if self._random.random() < 0.1:
            del self._kept[key]
            return False
        for i, row in enumerate(self._kept[key]):
            self._rows[block * self._size + i] = row
        return True


@dataclass
class Shape:
    """What a simulated engine has."""

    blocks: int = 8
    block_size: int = 4
    max_batch_size: int = 3
    max_batched_tokens: int = 8
    reuse: bool = True
    shelf: bool = False
    drafts: int = 0


class Simulation:
    """Requests over a scheduler; every invariant is checked at every step."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.shape, self.random = shape, Random(seed)
        self.rows: dict[int, int] = {}
        shelf = MemoryShelf(self.rows, shape.block_size, self.random) if shape.shelf else None
        self.blocks = BlockManager(shape.blocks, reuse=shape.reuse, shelf=shelf)
        self.scheduler = Scheduler(
            self.blocks,
            block_size=shape.block_size,
            max_batch_size=shape.max_batch_size,
            max_batched_tokens=shape.max_batched_tokens,
        )
        self.alive: list[Sequence] = []
        self.finished: list[Sequence] = []
        self.tokens_read = 0
        self.forked: set[int] = set()
        self.known: dict[Sequence, list[int]] = {}
        self.handed_in: dict[int, int] = {}

    def submit(self, prompt: list[int], count: int, priority: int = 0, n: int = 1) -> Request | None:
        if not self.scheduler.fits(len(prompt) + count):
            return None
        request = Request(len(self.handed_in), tuple(prompt), SamplingParams(max_tokens=count, n=n), priority)
        for index in range(n):
            rank = self.scheduler.rank(priority)
            request.sequences.append(Sequence(request, prompt, rank, index=index, limit=count))
        self.scheduler.add(request.sequences[0])
        self.alive += request.sequences
        self.handed_in[request.id] = self.scheduler.steps
        return request

    def cancel(self, sequence: Sequence) -> None:
        if sequence in self.alive:
            self._finish(sequence, FinishReason.CANCELLED)

    def fail(self, sequence: Sequence) -> None:
        if sequence in self.alive and self._started(sequence):
            self.scheduler.disown(sequence)
            self._end(sequence, FinishReason.ERROR)

    def _started(self, sequence: Sequence) -> bool:
        return sequence.index == 0 or sequence.request.id in self.forked

    def step(self) -> None:
        plan = self.scheduler.plan()
        assert len(plan.chunks) == len(self.scheduler.running) <= self.shape.max_batch_size
        assert sum(chunk.length for chunk in plan.chunks) <= self.shape.max_batched_tokens
        assert plan.chunks or not self.alive
        for source, target in plan.copies:
            for i in range(self.shape.block_size):
                self._move(source, target, i)
        for chunk in plan.chunks:
            self._read(chunk)
        for chunk in plan.chunks:
            self._settle(chunk)
        self.check()

    def _fingerprints(self, sequence: Sequence) -> list[int]:
        """Of all its tokens. Tokens are never taken back, so those of before are still right."""
        rows = self.known.setdefault(sequence, [])
        row = rows[-1] if rows else START
        for token in sequence.tokens[len(rows) :]:
            rows.append(row := fingerprint(row, token))
        return rows

    def _move(self, source: int, target: int, i: int) -> None:
        size = self.shape.block_size
        if source * size + i in self.rows:
            self.rows[target * size + i] = self.rows[source * size + i]

    def _slot(self, sequence: Sequence, position: int) -> int:
        size = self.shape.block_size
        return sequence.table[position // size] * size + position % size

    def _read(self, chunk: Chunk) -> None:
        sequence = chunk.sequence
        assert chunk.length >= 1
        settled = chunk.start + chunk.length - chunk.drafts
        rows = self._fingerprints(sequence)[:settled]
        for guess in sequence.drafts[: chunk.drafts]:
            rows.append(fingerprint(rows[-1], guess))
        size, table, kept = self.shape.block_size, sequence.table, self.rows
        for first in range(0, chunk.start, size):
            at = table[first // size] * size
            for i in range(min(size, chunk.start - first)):
                assert kept[at + i] == rows[first + i]
        for position in range(chunk.start, chunk.start + chunk.length):
            assert self.blocks.references[table[position // size]] == 1
            kept[self._slot(sequence, position)] = rows[position]
        self.tokens_read += chunk.length

    def _settle(self, chunk: Chunk) -> None:
        sequence = chunk.sequence
        if not chunk.completes:
            self.scheduler.advance(sequence, chunk.start + chunk.length)
            return
        self.scheduler.advance(sequence, len(sequence.tokens))
        heirs = [sequence]
        if sequence.index == 0 and sequence.request.id not in self.forked:
            self.forked.add(sequence.request.id)
            for child in sequence.request.sequences[1:]:
                if child.finish is None:
                    self.scheduler.fork(sequence, child)
                    heirs.append(child)
        for heir in heirs:
            guesses = sequence.drafts[: chunk.drafts]
            for guess in [*guesses, None]:
                row = self._fingerprints(heir)[-1]
                heir.tokens.append(next_token(row, heir.index))
                if heir.generated == heir.limit or heir.tokens[-1] != guess:
                    break
            if heir.table:
                self.scheduler.advance(heir, len(heir.tokens) - 1)
            if heir.generated == heir.limit:
                self._finish(heir, FinishReason.LENGTH)
            else:
                heir.drafts = [
                    self.random.randrange(VOCABULARY) for _ in range(self.random.randint(0, self.shape.drafts))
                ]

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self.scheduler.remove(sequence)
        self._end(sequence, reason)

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish = reason
        self.known.pop(sequence, None)
        self.alive.remove(sequence)
        self.finished.append(sequence)
        if sequence.index == 0 and sequence.request.id not in self.forked:
            # Completions that were never begun end with the one that reads the prompt for them.
            self.forked.add(sequence.request.id)
            for child in sequence.request.sequences[1:]:
                if child.finish is None:
                    child.finish = reason
                    self.alive.remove(child)
        if reason is FinishReason.LENGTH:
            expected = continuation(list(sequence.request.prompt), sequence.limit, sequence.index)
            assert sequence.tokens[sequence.prompt_length :] == expected

    def run(self, most: int = 100_000) -> None:
        """Step until nothing is left to do."""
        for _ in range(most):
            if not self.alive:
                break
            self.step()
        assert not self.alive
        self.check()
        assert self.blocks.available == self.shape.blocks
        assert not any(self.blocks.references)
        assert not self.scheduler.tables.coming

    def check(self) -> None:
        """Nobody holds a block that the counts do not know of, and no block is lost."""
        blocks = self.blocks
        held: dict[int, int] = {}
        for sequence in self.alive:
            for block in sequence.table:
                held[block] = held.get(block, 0) + 1
        free, idle = blocks._free, blocks._idle
        assert 0 not in held
        # So many different ones in all, none of them in two places: no block is lost.
        assert len({*free, *idle, *held}) == len(free) + len(idle) + len(held) == self.shape.blocks
        assert min(blocks.references) >= 0
        assert sum(blocks.references) == sum(held.values())
        assert all(blocks.references[block] == count for block, count in held.items())
        published = blocks._published
        assert len(published) == len(blocks._keys) - blocks._keys.count(None)
        assert all(blocks._keys[block] == key for key, block in published.items())
        assert all(blocks._keys[block] is not None for block in idle)
        waiting = list(self.scheduler.waiting)
        assert all(not sequence.table for sequence in waiting)
        assert len({*map(id, waiting)} & {*map(id, self.scheduler.running)}) == 0
