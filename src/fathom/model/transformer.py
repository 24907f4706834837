"""The whole network: embedding, layers, final norm, output head, and MTP modules that share embedding and head."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fathom.config.model import ModelConfig
from fathom.errors import UsageError
from fathom.model.block import Block
from fathom.model.cache import Cache, LayerCache
from fathom.model.experts import MoE
from fathom.model.linear import Linear, RMSNorm
from fathom.model.mtp import MTPModule
from fathom.model.outputs import ModelOutput, Routing, Trunk
from fathom.model.recompute import Forgetting, Recompute, run_plainly, set_runner
from fathom.model.rope import RotaryTables


class Backbone(nn.Module):
    """Everything the published weights keep under `model.`: MTP modules are layers L and beyond."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        main, more = config.num_hidden_layers, config.num_nextn_predict_layers
        # Without the initial draw of nn.Embedding, which takes a second on the meta device.
        unset = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(unset, freeze=False)
        blocks: list[nn.Module] = [Block(config, i) for i in range(main)]
        self.layers = nn.ModuleList(blocks + [MTPModule(config, main + k) for k in range(more)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A language model. Parameters are masters; activations run in `compute_dtype`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.rotary = RotaryTables(config)
        self.model = Backbone(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.recompute = "none"

    @property
    def recompute(self) -> Recompute:
        """What the backward pass computes again to save memory; results are the same."""
        return self._recompute

    @recompute.setter
    def recompute(self, what: Recompute) -> None:
        self._recompute: Recompute = what
        self._forgetting = [Forgetting() for _ in self.model.layers] if what == "norms_and_up_projections" else []
        for i, layer in enumerate(self.model.layers):
            set_runner(layer, self._forgetting[i].run if self._forgetting else run_plainly)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw every matrix from a normal of deviation `initializer_range`; norms 1, biases 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            elif generator is None or generator.device == parameter.device:
                parameter.normal_(0.0, self.config.initializer_range, generator=generator)
            else:
                drawn = torch.empty(parameter.shape, dtype=parameter.dtype, device=generator.device)
                parameter.copy_(drawn.normal_(0.0, self.config.initializer_range, generator=generator))
        for buffer in self.buffers():
            buffer.zero_()

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, D)."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D) that are ready for the head."""
        if self.config.tie_word_embeddings:
            return F.linear(hidden, self.head_weight.to(hidden.dtype))
        logits: Tensor = self.lm_head(hidden)
        return logits

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        depths: int = 0,
    ) -> ModelOutput:
        """Logits of the token after each of `tokens` (B, S); see `trunk` for the rest."""
        trunk = self.trunk(tokens, positions=positions, mask=mask, cache=cache, depths=depths)
        return ModelOutput(self.head(trunk.hidden), tuple(self.head(hidden) for hidden in trunk.mtp_hidden))

    def trunk(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        depths: int = 0,
        balance_loss: bool = False,
        next_tokens: Tensor | None = None,
        mtp_sequences: int | None = None,
    ) -> Trunk:
        """Everything before the output head, for `tokens` (B, S) int64.

        `positions` (B or 1, S) count on from the cache unless given. `mask` (B or 1, 1, S, T), T = cache + S, is True
        where a query may look and replaces the causal one; `fathom.model.masks` makes those for padding and for
        packed documents. A `cache` is read and appended to.

        The first `depths` MTP modules run too. Module k sees the hidden state of token i and the embedding of token
        i + k, so it has S - k positions; with `next_tokens` (B, >= depths), the tokens that follow, it has all S. With
        `mtp_sequences` the modules see that many sequences of the batch, the first ones.

        Every position counts in the loads and in the balance loss, padding too: keep padding out of training batches.
        """
        self._check_depths(depths, cache, next_tokens)
        S = tokens.shape[1]
        start = cache.length if cache is not None else 0
        if positions is None:
            positions = torch.arange(start, start + S, device=tokens.device).unsqueeze(0)
        rotation = self.rotary(positions)
        following = tokens if next_tokens is None or not depths else torch.cat((tokens, next_tokens), 1)
        embedded = self.model.embed_tokens(following).to(self.compute_dtype)
        routings: list[Routing] = []

        layers = list(self.model.layers)
        blocks = cast(list[Block], layers[: self.config.num_hidden_layers])
        caches = cache.layers(S) if cache is not None else [None] * len(blocks)
        state = blocks[0].attention_residual.enter(embedded[:, :S])
        for i, (block, part) in enumerate(zip(blocks, caches, strict=True)):
            state, routing = self._run(i, block, state, rotation, mask, part, balance_loss)
            routings += [routing] if routing is not None else []
        hidden = self.model.norm(blocks[-1].feed_forward_residual.leave(state))
        if cache is not None:
            cache.advance(S)

        modules = cast(list[MTPModule], layers[self.config.num_hidden_layers :])
        mtp_hidden: list[Tensor] = []
        hidden_part, embedded = hidden[:mtp_sequences], embedded[:mtp_sequences]
        rotation = rotation.sequences(mtp_sequences)
        mask = mask if mask is None or mask.shape[0] == 1 else mask[:mtp_sequences]
        for k, module in enumerate(modules[:depths], start=1):
            before = mtp_hidden[-1] if mtp_hidden else hidden_part
            length = min(S, embedded.shape[1] - k)
            shorter = None if mask is None else mask[..., :length, :length]
            inputs = (before[:, :length], embedded[:, k : k + length], rotation.first(length), shorter, balance_loss)
            after, routing = self._run(len(blocks) + k - 1, module, *inputs)
            mtp_hidden.append(after)
            routings += [routing] if routing is not None else []
        return Trunk(hidden, tuple(mtp_hidden), self._loads(routings, tokens), self._balance(routings, balance_loss))

    def mtp(
        self, hidden: Tensor, next_tokens: Tensor, positions: Tensor, *, cache: LayerCache | None = None, depth: int = 1
    ) -> Tensor:
        """MTP module `depth` alone, as decoding runs it: what the head needs to predict one token further, (B, S, D).

        `hidden` (B, S, D) are states that are ready for the head, of tokens at `positions` (B or 1, S): those of the
        trunk for the first module. `next_tokens` (B, S) follow them at a distance of `depth`. The module's `cache` is
        one layer's part, read and appended to; its keys stand at the positions of `hidden`.

        A module may be given its own output in the place of a further module's: states at the positions that follow,
        with the tokens that it predicted.
        """
        if depth > self.config.num_nextn_predict_layers:
            raise UsageError(f"MTP depth {depth} asked for: the model has {self.config.num_nextn_predict_layers}.")
        module = cast(MTPModule, self.model.layers[self.config.num_hidden_layers + depth - 1])
        embedded = self.model.embed_tokens(next_tokens).to(self.compute_dtype)
        made: Tensor = module(hidden, embedded, self.rotary(positions), cache=cache)[0]
        return made

    def _check_depths(self, depths: int, cache: Cache | None, next_tokens: Tensor | None) -> None:
        modules = self.config.num_nextn_predict_layers
        if depths > modules or (depths and cache is not None):
            raise UsageError(
                f"{depths} MTP depths asked for: the model has {modules}, and in the trunk they run without a cache; "
                "`mtp` runs a module with one."
            )
        if next_tokens is not None and next_tokens.shape[1] < depths:
            raise UsageError(f"{depths} MTP depths need as many next_tokens; {next_tokens.shape[1]} were given.")

    def _run(self, index: int, layer: nn.Module, *inputs: object) -> tuple[Tensor, Routing | None]:
        """Run layer `index`, keeping for the backward pass what `recompute` says."""
        made: tuple[Tensor, Routing | None]
        if self.recompute == "none" or not torch.is_grad_enabled():
            made = layer(*inputs)
        elif self.recompute == "layer":
            made = checkpoint(layer, *inputs, use_reentrant=False)
        else:
            with self._forgetting[index].forgetting():
                made = layer(*inputs)
        return made

    def _loads(self, routings: list[Routing], tokens: Tensor) -> Tensor:
        if not routings:
            return torch.zeros(0, self.config.n_routed_experts, dtype=torch.int64, device=tokens.device)
        return torch.stack([routing.loads for routing in routings])

    def _balance(self, routings: list[Routing], asked: bool) -> Tensor | None:
        if not asked:
            return None
        losses = [routing.balance_loss for routing in routings if routing.balance_loss is not None]
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self.head_weight.device)


def moe_layers(model: Transformer) -> list[tuple[str, MoE]]:
    """Names and modules of the expert layers, in the order of the rows of `Trunk.loads`."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, MoE)]
