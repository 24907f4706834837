"""What a step minimises: V3's main loss, multi-token prediction (eq. 24, 25) and sequence-wise balance (eq. 17)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.kernels.cross_entropy import linear_cross_entropy
from fathom.kernels.distillation import linear_distillation
from fathom.model.transformer import Transformer


@dataclass(frozen=True)
class Weights:
    """What each term counts at this step."""

    mtp: float
    """Lambda; the MTP modules run only if it is positive."""
    mtp_share: float
    """Share of the sequences they run on."""
    balance: float
    """Alpha; the balance loss is formed only if it is positive."""


@dataclass(frozen=True)
class Teacher:
    """A model whose next-token distribution is learned."""

    model: Transformer
    share: float
    """Of the main loss that is KL(teacher, student); the rest is nll."""


@dataclass(frozen=True)
class Terms:
    """The objective of a part of a batch."""

    loss: Tensor
    """This part's share of the batch's objective: parts add up to the whole."""
    sums: Tensor
    """(3 + depths,), detached: nll in nats and KL from the teacher, each summed over tokens, the balance loss summed
    over sequences, each MTP depth's mean nll times tokens."""
    loads: Tensor
    """(expert layers, E): tokens each expert took."""


def objective(
    model: Transformer, rows: Tensor, weights: Weights, batch_sequences: int, teacher: Teacher | None = None
) -> Terms:
    """The terms of `rows` (B, S + 1 + depths), B of the `batch_sequences` sequences of a step's batch.

    L = 1/T sum nll + lambda/depths * sum over k of mean nll_k + alpha * balance, where T counts the target tokens of
    the whole batch, so that gradients of parts simply add up. Depth k predicts the token k places after the next one,
    in `weights.mtp_share` of the part's sequences; each part's mean counts as the part's share of the batch. With a
    `teacher`, its share of the nll is KL(teacher, model) over the whole vocabulary instead.
    """
    modules = model.config.num_nextn_predict_layers
    depths = modules if weights.mtp > 0 else 0
    S = rows.shape[1] - 1 - modules
    B = rows.shape[0]
    part = max(1, round(weights.mtp_share * B))
    trunk = model.trunk(
        rows[:, :S],
        depths=depths,
        next_tokens=rows[:, S : S + depths],
        balance_loss=weights.balance > 0,
        mtp_sequences=part,
    )
    hidden = torch.cat([trunk.hidden, *trunk.mtp_hidden]).flatten(0, 1)
    later = [rows[:part, k + 1 : k + 1 + S].flatten() for k in range(1, depths + 1)]
    targets = torch.cat([rows[:, 1 : S + 1].flatten(), *later])
    each = 1.0 / (batch_sequences * S)
    shares = torch.full_like(targets, weights.mtp / max(depths, 1) * B / part * each, dtype=torch.float32)
    shares[: B * S] = each
    kl = hidden.new_zeros((), dtype=torch.float32)
    if teacher is None:
        loss, nll = linear_cross_entropy(hidden, model.head_weight, targets, shares)
    else:
        with torch.no_grad():
            theirs = teacher.model.trunk(rows[:, :S]).hidden.flatten(0, 1)
        loss, nll, kls = linear_distillation(
            hidden[: B * S],
            model.head_weight,
            theirs,
            teacher.model.head_weight,
            targets[: B * S],
            shares[: B * S],
            teacher.share,
        )
        kl = kls.sum()
        if depths:
            later_loss, later_nll = linear_cross_entropy(
                hidden[B * S :], model.head_weight, targets[B * S :], shares[B * S :]
            )
            loss, nll = loss + later_loss, torch.cat([nll, later_nll])

    balance = torch.zeros((), device=rows.device)
    if trunk.balance_loss is not None:
        balance = trunk.balance_loss * rows.shape[0]
        loss = loss + weights.balance / batch_sequences * balance
    by_depth = nll[B * S :].view(depths, part * S).sum(1) * (B / part)
    whole = torch.stack([nll[: B * S].sum(), kl.to(nll), balance.detach().to(nll)])
    return Terms(loss, torch.cat([whole, by_depth]), trunk.loads)
