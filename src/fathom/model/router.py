"""Which experts a token sees: V3's sigmoid scores with a balancing bias, V2's softmax scores, both by groups."""

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathom.config.model import ModelConfig
from fathom.kernels.top_k import top_k
from fathom.model.outputs import Choice, Routing


class Router(nn.Module):
    """Scores E experts for each token and picks K, in at least FP32 whatever the input is (V3 eq. 13 to 16)."""

    e_score_correction_bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.forced: Tensor | None = None
        """Experts (T, K) to take in the place of its own choice, of the same T tokens: see `fathom.reason.routing`."""
        self.biased = config.topk_method == "noaux_tc"
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        if self.biased:
            self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts, dtype=torch.float32))

    def forward(self, x: Tensor) -> Choice:
        """Choose for tokens x (T, D)."""
        config = self.config
        wide = x if x.dtype == torch.float64 else x.float()
        logits = F.linear(wide, self.weight.to(wide.dtype))
        scores = logits.sigmoid() if config.scoring_func == "sigmoid" else logits.softmax(-1)
        with torch.no_grad():
            ids = self.choose(scores.detach()) if self.forced is None else self.forced
        weights = scores.gather(1, ids)
        if config.norm_topk_prob:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return Choice(ids, weights * config.routed_scaling_factor, scores)

    def choose(self, scores: Tensor) -> Tensor:
        """The K experts (T, K) for scores (T, E); the bias decides who is chosen and nothing else."""
        config = self.config
        if self.biased:
            scores = scores + self.e_score_correction_bias
        if config.n_group > 1 and config.topk_method != "greedy":
            scores = scores.masked_fill(~self._open(scores), float("-inf"))
        return top_k(scores, config.num_experts_per_tok)

    def _open(self, scores: Tensor) -> Tensor:
        """True (T, E) for experts in the best groups: a group counts as its two best together in V3, its best in V2."""
        config = self.config
        grouped = scores.unflatten(-1, (config.n_group, -1))
        best = min(2, grouped.shape[-1]) if self.biased else 1
        groups = grouped.topk(best, dim=-1).values.sum(-1).topk(config.topk_group, dim=-1, sorted=False).indices
        is_open = torch.zeros(grouped.shape[:-1], dtype=torch.bool, device=scores.device).scatter_(1, groups, True)
        mask: Tensor = is_open.unsqueeze(-1).expand_as(grouped).flatten(-2)
        return mask

    def routing(self, choice: Choice, sequences: int, balance_loss: bool) -> Routing:
        """What the decision for T tokens of so many equally long sequences means for the balance."""
        loads = _counts(choice.ids.flatten(), self.config.n_routed_experts)
        return Routing(loads, self.balance_loss(choice, sequences) if balance_loss else None)

    def balance_loss(self, choice: Choice, sequences: int) -> Tensor:
        """Sum over experts of f_i P_i, averaged over sequences (V3 eq. 17 to 20); 1 when all are equal.

        f_i is expert i's share of the top K, times E / K; P_i its mean normalised score. V3 counts the top K of the
        scores themselves, before bias and groups; V2 the experts chosen.
        """
        E, K = self.config.n_routed_experts, self.config.num_experts_per_tok
        ids = top_k(choice.scores.detach(), K) if self.biased else choice.ids
        counted = torch.zeros_like(choice.scores).scatter_(1, ids, 1.0)
        share = counted.unflatten(0, (sequences, -1)).mean(1) * (E / K)
        mean_score = (choice.scores / choice.scores.sum(-1, keepdim=True)).unflatten(0, (sequences, -1)).mean(1)
        loss: Tensor = (share * mean_score).sum(-1).mean()
        return loss

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the module, but keep the bias FP32 under `.to(torch.bfloat16)`: its steps of 0.001 would vanish."""
        before = self._buffers.get("e_score_correction_bias")
        super()._apply(fn, recurse)
        after = self._buffers.get("e_score_correction_bias")
        if before is not None and after is not None and after.dtype != torch.float32:
            self._buffers["e_score_correction_bias"] = before.to(device=after.device, dtype=torch.float32)
        return self


def _counts(ids: Tensor, experts: int) -> Tensor:
    """How often each of `experts` is among `ids` (n,): (E,) int64."""
    if ids.device.type == "cpu":
        return torch.bincount(ids, minlength=experts)
    # On a GPU `bincount` asks the host how large its result is to be, which a graph cannot.
    return ids.new_zeros(experts).scatter_add_(0, ids, torch.ones_like(ids))
