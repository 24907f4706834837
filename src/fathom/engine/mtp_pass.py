"""One pass of an MTP module over ragged sequences in the paged cache."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.chunks import Chunk
from fathom.engine.runner import pack, ragged

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.engine.plan import Plan
    from fathom.kernels.decode.program import Drafting
    from fathom.model.paged import PagedStores
    from fathom.model.transformer import Transformer


class Said(NamedTuple):
    """What the module made of T positions."""

    hidden: "Tensor"
    """(T, D), ready for the head, or for the module itself."""
    logits: "Tensor"
    """(m, V) of the wanted ones; minus infinity of tokens that are not said."""


class MTPPass:
    """The model's first MTP module, by a native plan where there is one."""

    def __init__(self, model: "Transformer", vocabulary: int | None = None) -> None:
        """A native plan says tokens below `vocabulary` alone; all, without."""
        self._model = model
        self._vocabulary = vocabulary
        self._layer = model.config.num_hidden_layers
        self.plan: Plan | None = None
        self.weights_changed()

    def weights_changed(self) -> None:
        """Use the model's present weights from now on."""
        from fathom.engine.plan import make_mtp_plan

        self.plan = make_mtp_plan(self._model, vocabulary=self._vocabulary)

    @property
    def draws(self) -> bool:
        """Whether passes and the draws between them can be one native call."""
        from fathom.kernels.native import library

        return self.plan is not None and library() is not None

    def draft(
        self,
        hidden: "Tensor",
        tokens: list[int],
        memory: "PagedStores",
        chunks: Sequence[Chunk],
        wanted: list[int],
        asked: "Drafting",
    ) -> None:
        """As `__call__`, and on from the guesses that follow the rows `wanted`; they are written to `asked`."""
        assert self.plan is not None
        positions = [place for chunk in chunks for place in range(chunk.start, chunk.start + chunk.length)]
        packed = pack(chunks, tokens, positions, wanted)
        self.plan.read(packed, memory, with_hidden=True, inputs=hidden.float().contiguous(), drafting=asked)

    def __call__(
        self,
        hidden: "Tensor",
        tokens: list[int],
        positions: list[int],
        memory: "PagedStores",
        chunks: Sequence[Chunk],
        wanted: list[int],
    ) -> Said:
        """Read the chunks' states (T, D) at `positions`, each with the token that follows it, into the cache."""
        import torch

        from fathom.model.paged import PagedBatch

        with torch.inference_mode():
            if self.plan is not None:
                packed = pack(chunks, tokens, positions, wanted)
                logits, after = self.plan.read(packed, memory, with_hidden=True, inputs=hidden.float().contiguous())
                assert after is not None
                unsaid = self._model.config.vocab_size - logits.shape[1]
                return Said(after, torch.nn.functional.pad(logits, (0, unsaid), value=-torch.inf) if unsaid else logits)
            device = hidden.device
            at = torch.tensor([tokens, positions], device=device)
            rows = torch.tensor(wanted, dtype=torch.int64, device=device)
            batch = PagedBatch(memory, ragged(chunks, memory.block_size, device))
            hidden = hidden.to(self._model.compute_dtype)
            made = self._model.mtp(hidden[None], at[:1], at[1:], cache=batch.layer(self._layer))[0]
            return Said(made, self._model.head(made[rows]))
