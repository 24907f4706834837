"""What a step minimises: V3's main loss, multi-token prediction (eq. 24, 25) and sequence-wise balance (eq. 17)."""

from dataclasses import dataclass
from typing import NamedTuple

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
    self_distillation: float = 0.0
    """Share of the modules' losses that is KL from the model's own predictions."""


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
    `teacher`, its share of the nll is KL(teacher, model) over the whole vocabulary instead; in the same way, of nll_k,
    `weights.self_distillation` is KL(model's own prediction of that token, module k's).
    """
    modules = model.config.num_nextn_predict_layers
    depths = modules if weights.mtp > 0 else 0
    S, B = rows.shape[1] - 1 - modules, rows.shape[0]
    part = max(1, round(weights.mtp_share * B))
    # The model's own prediction of what depth k predicts is made k places later: it reads so many tokens more.
    further = depths if weights.self_distillation else 0
    trunk = model.trunk(
        rows[:, : S + further],
        depths=depths,
        next_tokens=None if further else rows[:, S : S + depths],
        balance_loss=weights.balance > 0,
        mtp_sequences=part,
    )
    main = trunk.hidden[:, :S].flatten(0, 1)
    later = [hidden[:, :S].flatten(0, 1) for hidden in trunk.mtp_hidden]
    targets = rows[:, 1 : S + 1].flatten()
    later_targets = [rows[:part, k + 1 : k + 1 + S].flatten() for k in range(1, depths + 1)]
    each = 1.0 / (batch_sequences * S)
    later_each = weights.mtp / max(depths, 1) * B / part * each
    kl = main.new_zeros((), dtype=torch.float32)
    if teacher is None and not further:
        # One call for all: the head's matrix is read and converted once.
        shares = torch.full((B * S + depths * part * S,), later_each, dtype=torch.float32, device=rows.device)
        shares[: B * S] = each
        loss, nll = linear_cross_entropy(
            torch.cat([main, *later]), model.head_weight, torch.cat([targets, *later_targets]), shares
        )
    else:
        theirs = None if teacher is None else _predictions(teacher, rows[:, :S])
        loss, nll, kl = _taught(model, main, targets, each, theirs, teacher.share if teacher else 0.0)
        if depths:
            own = [trunk.hidden[:part, k : k + S].flatten(0, 1) for k in range(1, depths + 1)] if further else []
            of_model = Predictions(torch.cat(own).detach(), model.head_weight.detach()) if further else None
            later_loss, later_nll, _ = _taught(
                model, torch.cat(later), torch.cat(later_targets), later_each, of_model, weights.self_distillation
            )
            loss, nll = loss + later_loss, torch.cat([nll, later_nll])

    balance = torch.zeros((), device=rows.device)
    if trunk.balance_loss is not None:
        balance = trunk.balance_loss * rows.shape[0]
        loss = loss + weights.balance / batch_sequences * balance
    by_depth = nll[B * S :].view(depths, part * S).sum(1) * (B / part)
    whole = torch.stack([nll[: B * S].sum(), kl.to(nll), balance.detach().to(nll)])
    return Terms(loss, torch.cat([whole, by_depth]), trunk.loads)


class Predictions(NamedTuple):
    """Next-token distributions that are learned."""

    hidden: Tensor
    """(T, D), ready for the head."""
    head: Tensor
    """(V, D)."""


@torch.no_grad()
def _predictions(teacher: Teacher, tokens: Tensor) -> Predictions:
    return Predictions(teacher.model.trunk(tokens).hidden.flatten(0, 1), teacher.model.head_weight)


def _taught(
    model: Transformer, hidden: Tensor, targets: Tensor, weight: float, theirs: Predictions | None, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of `hidden` (T, D) with `weight` for each token, its nll (T,), and the sum of its KL from `theirs`."""
    shares = torch.full_like(targets, weight, dtype=torch.float32)
    if theirs is None:
        loss, nll = linear_cross_entropy(hidden, model.head_weight, targets, shares)
        return loss, nll, hidden.new_zeros((), dtype=torch.float32)
    loss, nll, kl = linear_distillation(hidden, model.head_weight, theirs.hidden, theirs.head, targets, shares, share)
    return loss, nll, kl.sum()
