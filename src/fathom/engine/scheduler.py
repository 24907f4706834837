"""Which tokens of which sequences the model reads in the next step.

Every step serves all running sequences: those that decode bring one unread token (and guesses at the next ones), those
whose prompt is being read bring a part of it, and the whole stays within `max_batched_tokens`. So a long prompt never
stops the others from writing, and a prompt is never starved by them: each running sequence advances in every step.

- **Order.** A sequence's rank is the step it arrived in, less `PATIENCE` steps for each unit of priority. Ranks never
  change, so whoever waits is overtaken only by those who arrive within a bounded time after: nobody starves.
- **Admission** takes the waiting sequence of the lowest rank, when there is a place in the batch and when its whole
  unread part finds blocks, one more remaining for each sequence that runs. The next ones do not slip past it, except
  past one that waits for a prefix: where another sequence is about to fill the very block that comes next, reading
  the same tokens twice would be waste. A request of higher priority makes room by interrupting lower ones.
- **Reading.** Of several sequences being read, the first in rank takes half of what the step has room for, the next
  half of the rest, and so on, so that a short prompt is not held up by a long one before it.
- **Preemption.** When a decoding sequence needs a block and none is left, the sequence of the highest rank gives up
  its own and waits again; what it has generated is kept and read again later, much of it from the cache. The sequence
  of the lowest rank is never interrupted, and any sequence fits alone (checked when it is handed in), so there is
  always progress.
"""

from fathom.engine.blocks import BlockManager
from fathom.engine.chunks import Chunk, Plan
from fathom.engine.queue import Queue
from fathom.engine.request import Sequence
from fathom.engine.tables import Tables

PATIENCE = 256
"""Steps of waiting that outweigh one unit of priority."""


class Scheduler:
    """Decides step by step; owns the sequences' tables and counts, and touches no tensor."""

    def __init__(
        self,
        blocks: BlockManager,
        *,
        block_size: int,
        max_batch_size: int,
        max_batched_tokens: int,
    ) -> None:
        self.blocks, self.block_size = blocks, block_size
        self.tables = Tables(blocks, block_size)
        self.max_batch_size, self.max_batched_tokens = max_batch_size, max_batched_tokens
        self.waiting, self.running = Queue(), Queue()
        self.steps = 0
        self.preemptions = 0
        self._serial = 0

    def rank(self, priority: int) -> tuple[int, int]:
        """The rank of a sequence that arrives now."""
        self._serial += 1
        return self.steps - priority * PATIENCE, self._serial

    def fits(self, tokens: int) -> bool:
        """Whether a sequence can ever grow to so many tokens. Its last one is never read."""
        return self.tables.blocks_for(tokens - 1) <= self.blocks.count

    def add(self, sequence: Sequence) -> None:
        """Hand in a sequence."""
        self.waiting.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Let go of a sequence that has finished or is given up, wherever it is. Its full blocks stay for reuse."""
        if self.running.remove(sequence):
            self.tables.release(sequence)
        else:
            self.waiting.remove(sequence)

    def disown(self, sequence: Sequence) -> None:
        """As `remove`, for a sequence whose rows may be bad: nobody is to share them any more."""
        for block in sequence.table:
            self.blocks.forget(block)
        self.remove(sequence)

    def forget(self) -> None:
        """Let nobody share what has been read so far, nor what running sequences, which go on from it, still read."""
        self.tables.forget(self.running)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Let a new sequence go on from a running one, with all tokens that are in the cache in common.

        Where the batch has no place for it, it waits, and finds the common blocks again in the cache.
        """
        if len(self.running) >= self.max_batch_size:
            self.waiting.add(child)
            return
        self.tables.inherit(parent, child)
        self.running.add(child)

    def advance(self, sequence: Sequence, computed: int) -> None:
        """Take into account that a sequence's first `computed` tokens are in the cache and settled."""
        self.tables.settle(sequence, computed)

    def plan(self) -> Plan:
        """Decide the next step; empty where there is nothing to do."""
        self.steps += 1
        self.tables.copies = []
        if self.waiting:
            self._admit()
        chunks: list[Chunk] = []
        spare = self.max_batched_tokens - len(self.running)
        readers: list[Sequence] = []
        i = 0
        while i < len(self.running):
            sequence = self.running[i]
            if sequence.unread > 1:
                readers.append(sequence)
            else:
                drafts = min(len(sequence.drafts), spare // 2 if readers else spare)
                drafts = self._grow(sequence, drafts)
                if drafts < 0:
                    break
                spare -= drafts
                chunks.append(Chunk(sequence, sequence.computed, 1 + drafts, drafts))
            i += 1
        self._share(readers, spare, chunks)
        return Plan(chunks, self.tables.copies)

    def _share(self, readers: list[Sequence], spare: int, chunks: list[Chunk]) -> None:
        """Add the readers' chunks: one token each, and `spare` more between them."""
        counts = []
        for left, sequence in zip(range(len(readers), 0, -1), readers, strict=True):
            more = min(sequence.unread - 1, spare if left == 1 else -(-spare // 2))
            counts.append(1 + more)
            spare -= more
        for sequence, count in zip(readers, counts, strict=True):
            more = min(sequence.unread - count, spare)
            spare -= more
            chunks.append(Chunk(sequence, sequence.computed, count + more, 0))

    def _admit(self) -> None:
        """Let waiting sequences run, as far as there is room."""
        held_up = 0
        while held_up < len(self.waiting):
            sequence = self.waiting[held_up]
            if sequence.waits_for is not None and sequence.waits_for in self.tables.coming:
                held_up += 1
                continue
            full = len(self.running) >= self.max_batch_size
            if full and not self._lower(sequence, 1):
                return
            keys, matched = self.tables.match(sequence)
            if sequence.waits_for is not None:
                held_up += 1
                continue
            needed = self.tables.needed(sequence, matched) + len(self.running)
            if full or needed > self.blocks.available:
                if not self._make_way(sequence, needed):
                    return
                continue
            self.waiting.remove(sequence)
            self.tables.fill(sequence, keys, matched)
            self.running.add(sequence)

    def _grow(self, sequence: Sequence, drafts: int) -> int:
        """Give a decoding sequence blocks to write to; returns the drafts there is room for, -1 if it was preempted.

        Drafts are worth a free block, but not somebody else's.
        """
        first = sequence.computed // self.block_size
        table = sequence.table
        if first == len(table):
            if not self._preempt(sequence):
                return -1
            table.append(self.blocks.allocate())
        elif self.blocks.references[table[first]] > 1:
            if not self._preempt(sequence, table[first]):
                return -1
            # Those who shared it may have been interrupted just now, and the block be ours alone.
            self.tables.own(sequence, first)
        while drafts and (sequence.computed + drafts) // self.block_size >= len(table):
            if self.blocks.available <= len(self.running):
                drafts = len(table) * self.block_size - sequence.computed - 1
                break
            table.append(self.blocks.allocate())
        return drafts

    def _preempt(self, sequence: Sequence, shared: int | None = None) -> bool:
        """Interrupt sequences, the last in rank first, until a block is available, or `shared` no longer shared.

        False if `sequence` itself had to be interrupted.
        """
        while not self.blocks.available and (shared is None or self.blocks.references[shared] > 1):
            victim = self.running[-1]
            self._interrupt(victim)
            if victim is sequence:
                return False
        return True

    def _interrupt(self, victim: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(victim)
        self.tables.release(victim)
        victim.computed = victim.published = 0
        victim.drafts = []
        self.waiting.add(victim)

    def _lower(self, sequence: Sequence, count: int) -> list[Sequence]:
        """The last `count` running sequences, last first, if `sequence` outranks all of them by priority."""
        victims: list[Sequence] = []
        for victim in reversed(self.running):
            lower = victim.request.priority < sequence.request.priority and victim.rank > sequence.rank
            if not lower or len(victims) == count:
                break
            victims.append(victim)
        return victims

    def _make_way(self, sequence: Sequence, needed: int) -> bool:
        """Interrupt sequences of lower priority until there are a place and `needed` blocks, if that is enough."""
        victims = self._lower(sequence, len(self.running))
        freed, count = self.blocks.available, 0
        places = self.max_batch_size - len(self.running)
        for victim in victims:
            if places + count >= 1 and freed >= needed - count:
                break
            freed += sum(self.blocks.references[block] == 1 for block in victim.table)
            count += 1
        if not (places + count >= 1 and freed >= needed - count):
            return False
        for victim in victims[:count]:
            self._interrupt(victim)
        return True
