"""Log-probabilities of written texts under a model, and gradients of any loss of them, with bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fathom.kernels.cross_entropy import CHUNK_BYTES, linear_cross_entropy
from fathom.model.transformer import Transformer
from fathom.reason.rollouts import Group
from fathom.reason.routing import replayed


@dataclass(frozen=True)
class Texts:
    """Prompts and texts side by side, padded at the end."""

    tokens: Tensor
    """(N, P + S) int64."""
    prompt_lengths: Tensor
    """(N,)"""
    old: Tensor
    """(N, S) log-probabilities when they were drawn."""
    mask: Tensor
    """(N, S), 1 for tokens of the text."""
    experts: Tensor | None = None
    """(N, P + S - 1, L, K) int16: the experts to route to, in the place of the model's choice."""
    kept: tuple[tuple[Any, ...], ...] | None = None
    """For each token of each text the ids it was drawn among, None for all; log-probabilities are taken among these."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def read(self) -> Tensor:
        """(N,) tokens of prompt and text together."""
        return self.prompt_lengths + torch.count_nonzero(self.mask, 1)

    def part(self, index: Tensor) -> "Texts":
        """Some of the texts, no wider than they need."""
        mask = self.mask[index]
        width = int(mask.sum(1).max())
        lengths = self.prompt_lengths[index]
        whole = int((lengths + mask.sum(1)).max())
        experts = None if self.experts is None else self.experts[index, : whole - 1]
        kept = None if self.kept is None else tuple(self.kept[i] for i in index.tolist())
        return Texts(self.tokens[index, :whole], lengths, self.old[index, :width], mask[:, :width], experts, kept)

    def to(self, device: torch.device) -> "Texts":
        """The same on a device."""
        return Texts(
            self.tokens.to(device),
            self.prompt_lengths.to(device),
            self.old.to(device),
            self.mask.to(device),
            None if self.experts is None else self.experts.to(device),
            self.kept,
        )

    def plain(self) -> "Texts":
        """The same for another model, which routes by itself; what was kept stays."""
        return replace(self, experts=None)


def texts_of(groups: Sequence[Group]) -> Texts:
    """All texts of the groups, in order, with all that was recorded of them."""
    rollouts = [(group.prompt, text) for group in groups for text in group.rollouts]
    texts = side_by_side([(prompt, text.tokens) for prompt, text in rollouts], [text.logprobs for _, text in rollouts])
    first = rollouts[0][1]
    experts, kept = None, None
    if first.experts is not None:
        # Padding takes the first K experts, which are as good as any.
        experts = torch.arange(first.experts.shape[-1], dtype=torch.int16)
        experts = experts.expand(len(texts), texts.tokens.shape[1] - 1, *first.experts.shape[1:]).clone()
        for i, (_, text) in enumerate(rollouts):
            assert text.experts is not None
            experts[i, : len(text.experts)] = text.experts
    if first.kept is not None:
        kept = tuple(text.kept or () for _, text in rollouts)
    return replace(texts, experts=experts, kept=kept)


def side_by_side(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], logprobs: Sequence[Sequence[float]] | None = None
) -> Texts:
    """Prompts with what follows them, and its log-probabilities when it was drawn; zeros where nobody drew it."""
    longest = max(len(text) for _, text in pairs)
    whole = max(len(prompt) + len(text) for prompt, text in pairs)
    tokens = torch.zeros(len(pairs), whole, dtype=torch.int64)
    old, mask = torch.zeros(len(pairs), longest), torch.zeros(len(pairs), longest)
    for i, (prompt, text) in enumerate(pairs):
        row = torch.tensor((*prompt, *text))
        tokens[i, : len(row)] = row
        mask[i, : len(text)] = 1
        if logprobs is not None:
            old[i, : len(text)] = torch.tensor(logprobs[i])
    return Texts(tokens, torch.tensor([len(prompt) for prompt, _ in pairs]), old, mask)


def logprobs_of(model: Transformer, texts: Texts, temperature: float = 1.0) -> Tensor:
    """(N, S) log-probabilities of the texts' tokens at `temperature`; 0 where the mask is 0. Without gradients."""
    with torch.no_grad():
        hidden, targets = _hidden(model, texts)
        if texts.kept is not None:
            return _laid_out(texts, _among_kept(model, hidden, targets, texts, temperature))
        return _laid_out(texts, -_nll(hidden, targets, model.head_weight, temperature))


def backward(
    model: Transformer, texts: Texts, loss: Callable[[Tensor], Tensor], temperature: float = 1.0
) -> tuple[float, Tensor]:
    """Add to the model's gradients those of `loss(logprobs)`; return its value and the log-probabilities (N, S).

    The loss is differentiated with respect to the log-probabilities first. They then enter the head's own loss as
    weights of the tokens, so that no (tokens, V) matrix outlives its chunk.
    """
    hidden, targets = _hidden(model, texts)
    with torch.no_grad():
        if texts.kept is not None:
            found = _among_kept(model, hidden, targets, texts, temperature)
        else:
            found = -_nll(hidden, targets, model.head_weight, temperature)
    logprobs = _laid_out(texts, found).requires_grad_()
    value = loss(logprobs)
    (gradient,) = torch.autograd.grad(value, logprobs)
    weights = -gradient[texts.mask.bool()]
    if texts.kept is not None:
        leaf = hidden.detach().requires_grad_()
        _among_kept(model, leaf, targets, texts, temperature, -weights)
        hidden.backward(leaf.grad)
        return float(value.detach()), logprobs.detach()
    scaled = hidden / temperature if temperature != 1.0 else hidden
    linear_cross_entropy(scaled, model.head_weight, targets, weights)[0].backward()
    return float(value.detach()), logprobs.detach()


def reverse_kl_backward(model: Transformer, teacher: Transformer, texts: Texts, scale: float) -> float:
    """Add to the model's gradients those of `scale` times the sum over tokens of KL(model, teacher); return that sum.

    Both distributions are formed for a few tokens at a time, over the whole vocabulary.
    """
    hidden, targets = _hidden(model, texts)
    with torch.no_grad():
        theirs, _ = _hidden(teacher, texts)
    leaf = hidden.detach().requires_grad_()
    rows = max(1, CHUNK_BYTES // (4 * len(model.head_weight)))
    total = 0.0
    for a in range(0, len(targets), rows):
        mine = model.head(leaf[a : a + rows]).float().log_softmax(-1)
        with torch.no_grad():
            wanted = teacher.head(theirs[a : a + rows]).float().log_softmax(-1)
        value = (mine.exp() * (mine - wanted)).sum()
        (scale * value).backward()
        total += float(value.detach())
    hidden.backward(leaf.grad)
    return total


def _hidden(model: Transformer, texts: Texts) -> tuple[Tensor, Tensor]:
    """Hidden states (tokens of texts, D) before each token of a text, and those tokens."""
    whole = texts.tokens.shape[1]
    places = torch.arange(whole, device=texts.tokens.device)[None]
    lengths = texts.prompt_lengths[:, None]
    written = (places >= lengths) & (places < lengths + texts.mask.sum(1, keepdim=True))
    with replayed(model, texts.experts):
        hidden = model.trunk(texts.tokens[:, :-1]).hidden
    return hidden[written[:, 1:]], texts.tokens[written]


def _among_kept(
    model: Transformer,
    hidden: Tensor,
    targets: Tensor,
    texts: Texts,
    temperature: float,
    weights: Tensor | None = None,
) -> Tensor:
    """(tokens,) log-probabilities among the tokens that sampling had left, a few rows at a time (V3.2, section 3.1).

    With `weights` (tokens,), the gradients of the log-probabilities times these are added too.
    """
    assert texts.kept is not None
    kept = [ids for row, mask in zip(texts.kept, texts.mask, strict=True) for ids in row[: int(mask.sum())]]
    rows = max(1, CHUNK_BYTES // (4 * len(model.head_weight)))
    found = []
    for a in range(0, len(targets), rows):
        logits = model.head(hidden[a : a + rows]).float() / temperature
        # Row by row on the CPU, and over in one go.
        absent = torch.zeros(logits.shape, dtype=torch.bool)
        for i, ids in enumerate(kept[a : a + rows]):
            if ids is not None:
                absent[i] = True
                absent[i, torch.as_tensor(ids, dtype=torch.int64)] = False
        among = logits.masked_fill(absent.to(logits.device), float("-inf")).log_softmax(-1)
        chosen = among.gather(1, targets[a : a + rows, None])[:, 0]
        if weights is not None:
            (chosen * weights[a : a + rows]).sum().backward()
        found.append(chosen.detach())
    return torch.cat(found)


def _nll(hidden: Tensor, targets: Tensor, head: Tensor, temperature: float) -> Tensor:
    scaled = hidden / temperature if temperature != 1.0 else hidden
    ones = torch.ones(len(targets), device=targets.device)
    return linear_cross_entropy(scaled.detach(), head.detach(), targets, ones)[1].float()


def _laid_out(texts: Texts, values: Tensor) -> Tensor:
    out = torch.zeros_like(texts.mask)
    out[texts.mask.bool()] = values
    return out
