"""One layer: attention and feed-forward, each after a norm and between a residual rule's read and write."""

from torch import Tensor, nn

from fathom.config.model import ModelConfig
from fathom.model.cache import LayerCache
from fathom.model.linear import RMSNorm
from fathom.model.outputs import Rotation, Routing
from fathom.model.registry import ATTENTION, FEED_FORWARD, RESIDUAL, AttentionKind, FeedForwardKind, layer_kinds
from fathom.model.residual import Residual


class Layer(nn.Module):
    """The parts of layer `index`, and how they follow each other."""

    self_attn: AttentionKind
    mlp: FeedForwardKind
    attention_residual: Residual
    feed_forward_residual: Residual

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        kinds = layer_kinds(config, index)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = ATTENTION[kinds.attention](config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FEED_FORWARD[kinds.feed_forward](config)
        self.attention_residual = RESIDUAL[kinds.residual](config)
        self.feed_forward_residual = RESIDUAL[kinds.residual](config)

    def flow(
        self, state: Tensor, rotation: Rotation, mask: Tensor | None, cache: LayerCache | None, balance_loss: bool
    ) -> tuple[Tensor, Routing | None]:
        """The state after this layer, and what its experts, if it has any, were asked for."""
        x = self.input_layernorm(self.attention_residual.read(state))
        state = self.attention_residual.write(state, self.self_attn(x, rotation, mask, cache))
        x = self.post_attention_layernorm(self.feed_forward_residual.read(state))
        y, routing = self.mlp(x, balance_loss)
        return self.feed_forward_residual.write(state, y), routing


class Block(Layer):
    """A layer of the main model."""

    def forward(
        self,
        state: Tensor,
        rotation: Rotation,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
        balance_loss: bool = False,
    ) -> tuple[Tensor, Routing | None]:
        """See `flow`."""
        return self.flow(state, rotation, mask, cache, balance_loss)
