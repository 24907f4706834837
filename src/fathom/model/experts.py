"""The mixture-of-experts layer: shared experts for every token, K routed ones for each (V3 eq. 12)."""

import torch
from torch import Tensor, nn

from fathom.config.model import ModelConfig
from fathom.kernels.experts import experts
from fathom.model.feed_forward import FeedForward
from fathom.model.outputs import Choice, Routing
from fathom.model.router import Router


class Experts(nn.Module):
    """Stacked experts: `gate_up_proj` (E, 2I, D) with the gate's rows first, `down_proj` (E, D, I)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        E, D, inner = config.n_routed_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(E, 2 * inner, D))
        self.down_proj = nn.Parameter(torch.empty(E, D, inner))

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Each of the tokens x (T, D) through its experts, weighted and summed."""
        return experts(x, choice.ids, choice.weights, self.gate_up_proj, self.down_proj)


class MoE(nn.Module):
    """Router, routed experts and shared experts. No token is ever dropped."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        self.has_shared = config.n_shared_experts > 0
        if self.has_shared:
            self.shared_experts = FeedForward(
                config.hidden_size, config.moe_intermediate_size * config.n_shared_experts
            )

    def forward(self, x: Tensor, balance_loss: bool = False) -> tuple[Tensor, Routing | None]:
        """Map x (B, S, D) to (B, S, D), and say who was chosen."""
        tokens = x.flatten(0, 1)
        choice = self.gate(tokens)
        out = self.experts(tokens, choice)
        if self.has_shared:
            out = out + self.shared_experts(tokens)[0]
        return out.view_as(x), self.gate.routing(choice, x.shape[0], balance_loss)
