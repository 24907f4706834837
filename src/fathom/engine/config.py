"""What an engine may use of the machine."""

from dataclasses import dataclass
from pathlib import Path

from fathom.engine.speculation import KINDS, Speculation
from fathom.errors import GenerationError


@dataclass(frozen=True)
class EngineConfig:
    """Sizes of the engine. The defaults suit a laptop and a single GPU."""

    max_batch_size: int = 64
    """Most sequences that run at once; others wait."""
    max_batched_tokens: int = 512
    """Most tokens read in one step. More reads prompts faster on a GPU; fewer keeps answers flowing meanwhile."""
    block_size: int = 16
    """Tokens in a block of the cache. Prefixes are shared in whole blocks."""
    cache_tokens: int | None = None
    """Tokens the cache has room for, over all sequences."""
    cache_bytes: int | None = None
    """The same as memory. Where neither is given: `max_batch_size` whole contexts, or a quarter of the free memory."""
    prefix_caching: bool = True
    """Keep what has been read, and do not read it again for another request that begins in the same way."""
    spill_folder: Path | None = None
    """A folder where blocks of the cache are kept across restarts; None keeps none."""
    spill_bytes: int = 4 << 30
    """Most disk the folder takes; the blocks longest unused go first."""
    speculation: Speculation = "off"
    """Guess tokens ahead and verify several in one step: by the model's MTP module ("mtp"), from what followed the same
    words before ("lookup"), by the first of these that the model has ("auto"), or not at all ("off"). Completions stay
    the same, whatever is guessed."""
    num_speculative_tokens: int = 4
    """Most guesses for a sequence and step. Fewer are made where they would not pay."""
    draft_vocabulary: int | None = None
    """Guess only tokens below this id, where an MTP module runs as a native program; all, without. The output head is
    most of what a module reads, and tokenizers number frequent tokens first. Rarer ones are drawn unguessed."""
    adaptive_speculation: bool = True
    """Make guesses only as far as they pay by what has been measured while serving; False makes as many as there may
    be in every step."""

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_batched_tokens", "block_size", "spill_bytes", "num_speculative_tokens"):
            self._whole(name, 1)
        if self.speculation not in KINDS:
            raise GenerationError(f"speculation is {self.speculation!r}: it must be one of {', '.join(KINDS)}.")
        for name in ("cache_tokens", "cache_bytes", "draft_vocabulary"):
            if getattr(self, name) is not None:
                self._whole(name, 1)
        if self.cache_tokens is not None and self.cache_bytes is not None:
            raise GenerationError("cache_tokens and cache_bytes are two ways to say the same: give one of them.")
        if self.max_batched_tokens < self.max_batch_size:
            raise GenerationError(
                f"max_batched_tokens is {self.max_batched_tokens}: it must be at least max_batch_size, which is "
                f"{self.max_batch_size}, for every running sequence reads at least one token a step."
            )
        if self.spill_folder is not None:
            if not self.prefix_caching:
                raise GenerationError("spill_folder keeps what prefix_caching finds again: leave prefix_caching on.")
            object.__setattr__(self, "spill_folder", Path(self.spill_folder).expanduser())

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise GenerationError(f"{name} is {value!r}: it must be a whole number of at least {least}.")
