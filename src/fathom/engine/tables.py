"""Which blocks each sequence holds, and what is known of their contents.

The scheduler decides who gets blocks; this keeps the books: tables, names of full blocks, and blocks that somebody is
about to fill.
"""

from collections.abc import Iterable

from fathom.engine.blocks import BlockManager
from fathom.engine.keys import extend_keys
from fathom.engine.request import Sequence

NEVER = 1 << 60
"""More full blocks than a sequence has: there is nothing to publish before the one after these."""


class Tables:
    """The sequences' tables of blocks."""

    def __init__(self, blocks: BlockManager, block_size: int) -> None:
        self.blocks, self.block_size = blocks, block_size
        self.root = b""
        """The key before every sequence's first, which stands for the model."""
        self.coming: dict[bytes, Sequence] = {}
        """Full blocks that are not there yet, by name, and the sequence that will fill each."""
        self.copies: list[tuple[int, int]] = []
        """Blocks to copy, (from, to), in the step being planned."""

    def blocks_for(self, tokens: int) -> int:
        """How many blocks hold so many tokens."""
        return -(-tokens // self.block_size)

    def match(self, sequence: Sequence) -> tuple[list[bytes], list[int]]:
        """Names of the full blocks that the sequence may take over, and the published ones among them.

        At least one token is left to be read, for the next one is drawn from what it says. Where another sequence is
        about to fill the block that comes next, `waits_for` names it.
        """
        sequence.waits_for = None
        if not self.blocks.reuse:
            return [], []
        count = (len(sequence.tokens) - 1) // self.block_size
        extend_keys(sequence.keys, sequence.tokens, self.block_size, count, self.root)
        keys = sequence.keys[:count]
        matched = self.blocks.matching(keys)
        for key in keys[len(matched) :]:
            if key not in self.coming:
                break
            sequence.waits_for = key
        return keys, matched

    def needed(self, sequence: Sequence, matched: list[int]) -> int:
        """Available blocks that a sequence takes which finds `matched`; idle ones stop being available once held."""
        revived = sum(not self.blocks.references[block] for block in matched)
        return self.blocks_for(len(sequence.tokens)) - len(matched) + revived

    def fill(self, sequence: Sequence, keys: list[bytes], matched: list[int]) -> None:
        """Give a sequence the matched blocks, those that can be fetched, and new ones for its unread tokens."""
        for block in matched:
            self.blocks.share(block)
        table = sequence.table
        table.extend(matched)
        for key in keys[len(matched) :]:
            fetched = self.blocks.fetch(key)
            if fetched is None:
                break
            table.append(fetched)
        sequence.published = len(table)
        sequence.computed = len(table) * self.block_size
        if sequence.cached is None:
            sequence.cached = sequence.computed
        for key in keys[len(table) :]:
            self.coming.setdefault(key, sequence)
        while len(table) < self.blocks_for(len(sequence.tokens)):
            table.append(self.blocks.allocate())

    def inherit(self, parent: Sequence, child: Sequence) -> None:
        """Let a new sequence hold all that another one does."""
        child.table = parent.table[:]
        child.keys, child.published = parent.keys[:], parent.published
        child.computed = parent.computed
        for block in child.table:
            self.blocks.share(block)

    def own(self, sequence: Sequence, index: int) -> None:
        """Replace a block of the sequence's by a copy where others share it."""
        shared = sequence.table[index]
        if self.blocks.references[shared] > 1:
            copy = self.blocks.allocate()
            self.copies.append((shared, copy))
            self.blocks.release(shared)
            sequence.table[index] = copy

    def settle(self, sequence: Sequence, computed: int) -> None:
        """Publish what is full of a sequence whose first `computed` tokens are in the cache for good."""
        sequence.computed = computed
        full = computed // self.block_size
        if full > sequence.published and self.blocks.reuse:
            extend_keys(sequence.keys, sequence.tokens, self.block_size, full, self.root)
            for i in range(sequence.published, full):
                self.blocks.publish(sequence.table[i], sequence.keys[i])
                if self.coming.get(sequence.keys[i]) is sequence:
                    del self.coming[sequence.keys[i]]
            sequence.published = full

    def release(self, sequence: Sequence) -> None:
        """Take a sequence's blocks from it. Full ones stay for reuse."""
        for key in sequence.keys:
            if self.coming.get(key) is sequence:
                del self.coming[key]
        self.blocks.release_all(sequence.table)
        sequence.table = sequence.table[:0]

    def forget(self, running: Iterable[Sequence]) -> None:
        """Let nobody share what has been read so far, nor what running sequences, which go on from it, still read."""
        self.blocks.forget_all()
        self.coming.clear()
        for sequence in running:
            sequence.published = NEVER
