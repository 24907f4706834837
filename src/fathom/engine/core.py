"""The engine's inside: one step from plan to tokens."""

import logging
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import TYPE_CHECKING

from fathom.engine.accept import News, accept, ending, error_line
from fathom.engine.blocks import BlockManager
from fathom.engine.choosing import Chosen, Pick, choose
from fathom.engine.chunks import Chunk
from fathom.engine.config import EngineConfig
from fathom.engine.metrics import Metrics, Speed
from fathom.engine.request import FinishReason, Request, Sequence
from fathom.engine.runner import Reading, Runner
from fathom.engine.scheduler import Scheduler
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from fathom.engine.drafting import Drafter
    from fathom.engine.spill import SpillFolder
    from fathom.model.transformer import Transformer

log = logging.getLogger("fathom.engine")


class Core:
    """Cache, scheduler and model together. Sequences go in, and come out a few tokens longer with every step."""

    def __init__(
        self, model: "Transformer", config: EngineConfig, blocks: int, drafter: "Drafter | None" = None
    ) -> None:
        from fathom.model.paged import PagedStores

        layers = model.config.num_hidden_layers + (drafter.layers if drafter else 0)
        device = next(model.parameters()).device
        try:
            # Block 0 belongs to nobody.
            memory = PagedStores(model.config, blocks + 1, config.block_size, model.compute_dtype, device, layers)
        except (MemoryError, RuntimeError) as error:
            raise GenerationError(
                f"No memory for a cache of {blocks * config.block_size:,} tokens ({error}): lower cache_tokens."
            ) from None
        self.model, self.config, self.drafter = model, config, drafter
        self.memory = memory
        self.blocks = BlockManager(blocks, reuse=config.prefix_caching)
        self.scheduler = Scheduler(
            self.blocks,
            block_size=config.block_size,
            max_batch_size=config.max_batch_size,
            max_batched_tokens=config.max_batched_tokens,
        )
        self.runner = Runner(model, memory, with_hidden=drafter is not None and drafter.layers > 0)
        self.spill = self._open_spill()
        self._metrics, self._speed = Metrics(), Speed()
        self._begun: set[int] = set()

    @property
    def busy(self) -> bool:
        """Whether there is anything to step."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def check_fits(self, prompt_tokens: int, limit: int) -> None:
        """Raise `GenerationError` for a request that the cache cannot hold even alone."""
        if not self.scheduler.fits(prompt_tokens + limit):
            room = self.blocks.count * self.config.block_size
            raise GenerationError(
                f"The prompt of {prompt_tokens} tokens may grow by {limit} and the cache has room for {room}: lower "
                "max_tokens, or raise cache_tokens."
            )

    def begin(self, request: Request) -> None:
        """Take in a request. Its first sequence reads the prompt; the others branch off when it is read."""
        self._metrics.requests += 1
        self._metrics.prompt_tokens += len(request.prompt)
        self.scheduler.add(request.sequences[0])

    def end(self, sequence: Sequence, reason: FinishReason, error: str = "") -> Iterator[tuple[Sequence, News]]:
        """Finish a sequence wherever it stands, and those of its request that wait for it to read the prompt."""
        if reason is FinishReason.ERROR:
            self._metrics.failed += 1
            self.scheduler.disown(sequence)
        else:
            self.scheduler.remove(sequence)
        sequence.finish, sequence.error = reason, error
        yield sequence, News((), ending(sequence))
        if sequence.index == 0 and sequence.request.id not in self._begun:
            for other in sequence.request.sequences[1:]:
                if other.finish is None:
                    yield from self.end(other, reason, error)
        self._clear(sequence.request)

    def step(self) -> list[tuple[Sequence, News]]:
        """Let every running sequence go on by a token or more; returns what came to each."""
        plan = self.scheduler.plan()
        if not plan.chunks:
            return []
        self._metrics.steps += 1
        self.runner.copy(plan.copies)
        return list(self._read(plan.chunks))

    def _read(self, chunks: Many[Chunk]) -> Iterator[tuple[Sequence, News]]:
        """Read chunks. What fails for all together is tried for each alone, so that a bad one fails by itself."""
        try:
            reading = self.runner.read(chunks)
        except Exception as error:
            if len(chunks) == 1:
                yield from self.end(chunks[0].sequence, FinishReason.ERROR, error_line(error))
            else:
                for chunk in chunks:
                    yield from self._read([chunk])
            return
        yield from self._settle(reading)

    def _settle(self, reading: Reading) -> Iterator[tuple[Sequence, News]]:
        """Draw what follows, and hand it to the sequences."""
        picks: list[Pick] = []
        row = 0
        for chunk in reading.chunks:
            sequence, start, count, drafts = chunk
            self._metrics.read_tokens += count
            if not chunk.completes:
                self.scheduler.advance(sequence, start + count)
                continue
            self.scheduler.advance(sequence, start + count - drafts)
            picks.append(Pick(sequence, row, sequence.drafts[:drafts]))
            picks += [Pick(heir, row, ()) for heir in self._heirs(sequence)]
            row += 1 + drafts
        going_on: list[Sequence] = []
        for pick, chosen in zip(picks, choose(reading.logits, picks) if picks else (), strict=True):
            news = self._take(pick, chosen)
            if chosen.sequence.finish is None:
                if error := chosen.error or chosen.sequence.error:
                    yield chosen.sequence, news
                    yield from self.end(chosen.sequence, FinishReason.ERROR, error)
                    continue
                going_on.append(chosen.sequence)
            yield chosen.sequence, news
        self._draft(reading, going_on)

    def _draft(self, reading: Reading, sequences: list[Sequence]) -> None:
        """Let guesses be made for those that go on. Guessing that fails is given up: nothing but speed rests on it."""
        if self.drafter is None:
            return
        try:
            for sequence, guesses in zip(sequences, self.drafter.draft(reading, sequences), strict=True):
                sequence.drafts = guesses
        except Exception:
            log.exception("Guessing ahead failed, and is turned off.")
            self.drafter = None

    def _take(self, pick: Pick, chosen: Chosen) -> News:
        sequence = chosen.sequence
        news = accept(sequence, chosen.results)
        self._metrics.generated_tokens += len(news.results)
        self._speed.add(len(news.results))
        if pick.guesses:
            self._metrics.count_drafts(len(pick.guesses), chosen.accepted)
        sequence.drafts = []
        if sequence.table:
            self.scheduler.advance(sequence, len(sequence.tokens) - 1)
        if sequence.finish is not None:
            self.scheduler.remove(sequence)
            self._clear(sequence.request)
        return news

    def _heirs(self, sequence: Sequence) -> list[Sequence]:
        """The other completions of a prompt, as soon as the first has read it; from then on each is on its own."""
        request = sequence.request
        if sequence.index or request.id in self._begun:
            return []
        self._metrics.cached_tokens += request.cached_tokens
        self._begun.add(request.id)
        heirs = [other for other in request.sequences[1:] if other.finish is None]
        for heir in heirs:
            self.scheduler.fork(sequence, heir)
        return heirs

    def _clear(self, request: Request) -> None:
        if request.finished:
            self._begun.discard(request.id)

    def forget(self) -> None:
        """Share nothing of what has been read so far, and take up the model's present weights."""
        self.scheduler.forget()
        self.runner.take_weights()
        if self.drafter is not None:
            self.drafter.weights_changed()
        if self.spill is not None:
            self.spill.close()
            self.spill = self._open_spill()

    def check_weights(self) -> None:
        """Forget what was read with other weights than the model's present ones."""
        if self.runner.weights_stale:
            self.forget()

    def close(self) -> None:
        """Write to the spill folder what is still to be written."""
        if self.spill is not None:
            self.spill.close()

    def _open_spill(self) -> "SpillFolder | None":
        if self.config.spill_folder is None:
            return None
        from fathom.engine.fingerprint import fingerprint
        from fathom.engine.spill import SpillFolder

        root = fingerprint(self.model, self.memory)
        spill = SpillFolder(self.config.spill_folder, root, self.memory, self.config.spill_bytes)
        self.blocks.shelf, self.scheduler.tables.root = spill, root
        return spill

    def metrics(self) -> Metrics:
        """A copy of the counts, with the present state of queue and cache."""
        now = self._metrics
        return replace(
            now,
            waiting=len(self.scheduler.waiting),
            running=len(self.scheduler.running),
            blocks=self.blocks.count,
            blocks_in_use=self.blocks.count - self.blocks.available,
            blocks_idle=self.blocks.idle,
            tokens_per_second=self._speed.now(),
            preemptions=self.scheduler.preemptions,
            spilled_blocks=self.spill.written if self.spill else 0,
            restored_blocks=self.spill.restored if self.spill else 0,
            drafted=list(now.drafted),
            accepted=list(now.accepted),
        )
