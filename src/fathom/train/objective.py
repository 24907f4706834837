"""What a step minimises: V3's main loss, multi-token prediction (eq. 24, 25) and sequence-wise balance (eq. 17)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.kernels.cross_entropy import linear_cross_entropy
from fathom.model.transformer import Transformer


@dataclass(frozen=True)
class Weights:
    """What each term counts at this step."""

    mtp: float
    """Lambda; the MTP modules run only if it is positive."""
    balance: float
    """Alpha; the balance loss is formed only if it is positive."""


@dataclass(frozen=True)
class Terms:
    """The objective of a part of a batch."""

    loss: Tensor
    """This part's share of the batch's objective: parts add up to the whole."""
    sums: Tensor
    """(2 + depths,), detached: nll in nats summed over tokens, the balance loss summed over sequences, each MTP depth's
    nll summed over tokens."""
    loads: Tensor
    """(expert layers, E): tokens each expert took."""


def objective(model: Transformer, rows: Tensor, weights: Weights, batch_sequences: int) -> Terms:
    """The terms of `rows` (B, S + 1 + depths), B of the `batch_sequences` sequences of a step's batch.

    L = 1/T sum nll + lambda/depths * sum over k of 1/T sum nll_k + alpha * balance, where T counts the target tokens of
    the whole batch, so that gradients of parts simply add up. Depth k predicts the token k places after the next one.
    """
    modules = model.config.num_nextn_predict_layers
    depths = modules if weights.mtp > 0 else 0
    S = rows.shape[1] - 1 - modules
    trunk = model.trunk(
        rows[:, :S], depths=depths, next_tokens=rows[:, S : S + depths], balance_loss=weights.balance > 0
    )
    hidden = torch.cat([trunk.hidden, *trunk.mtp_hidden]).flatten(0, 1)
    targets = torch.cat([rows[:, k + 1 : k + 1 + S] for k in range(depths + 1)]).flatten()
    total = batch_sequences * S
    shares = torch.full((depths + 1, rows.shape[0] * S), weights.mtp / (max(depths, 1) * total), device=rows.device)
    shares[0] = 1.0 / total
    loss, nll = linear_cross_entropy(hidden, model.head_weight, targets, shares.flatten())

    balance = torch.zeros((), device=rows.device)
    if trunk.balance_loss is not None:
        balance = trunk.balance_loss * rows.shape[0]
        loss = loss + weights.balance / batch_sequences * balance
    by_depth = nll.view(depths + 1, -1).sum(1)
    return Terms(loss, torch.cat([by_depth[:1], balance.detach().view(1).to(nll), by_depth[1:]]), trunk.loads)
