"""What is minimised, as a sum of components, each over its own texts with its own normaliser.

Reinforcement, a penalty for leaving the reference, fine-tuning on given or sampled texts, and distillation are such
sums; one trainer does them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fathom.model.transformer import Transformer
from fathom.parallel.mesh import ALONE, World
from fathom.reason.losses import LOSSES, kept_texts, reference_kl
from fathom.reason.scoring import Texts, backward, logprobs_of, reverse_kl_backward

Loss = Callable[[Tensor, Texts, Tensor], Tensor]
"""(log-probabilities (n, S) of the written tokens, part of the texts, their numbers (n,)): the sum over the part."""
Over = Literal["tokens", "texts"]


@dataclass(frozen=True)
class WholeVocabulary:
    """KL(model, teacher) at each token's place, which needs more than the written tokens' log-probabilities."""

    teacher: Transformer


Measured = Loss | WholeVocabulary


@dataclass(frozen=True)
class Component:
    """One summand: `weight` times the mean of `loss` over all tokens of `texts`, or over all `texts`."""

    name: str
    weight: float
    """0 for what is only watched."""
    texts: Texts
    loss: Measured
    over: Over = "tokens"


def accumulate(
    model: Transformer,
    components: Sequence[Component],
    micro_batch_texts: int,
    temperature: float = 1.0,
    world: World = ALONE,
) -> dict[str, float]:
    """Add the gradients of all components, few texts at a time; each component's mean, by name.

    Components of the same `Texts` share their passes. `temperature` is what log-probabilities are taken at.

    Every process of `world` is given all texts and takes its share, each a mean's part over all of them: the gradients
    of all processes add up to those of one (`Trainer.update` adds them).
    """
    sums = {component.name: 0.0 for component in components}
    for texts in {id(component.texts): component.texts for component in components}.values():
        mine = [component for component in components if component.texts is texts]
        lengths = texts.mask.sum(1)
        share = lengths.argsort(stable=True)[world.rank :: world.size]
        for index in share.split(micro_batch_texts) if len(share) else ():
            _add(model, mine, texts.part(index), index, temperature, sums)
    shared = world.sum_(torch.tensor(list(sums.values()), dtype=torch.float64, device=world.device)).tolist()
    sums = dict(zip(sums, shared, strict=True))
    return {component.name: sums[component.name] / _size(component) for component in components}


def _add(
    model: Transformer,
    components: Sequence[Component],
    part: Texts,
    index: Tensor,
    temperature: float,
    sums: dict[str, float],
) -> None:
    of_logprobs = []
    for component in components:
        if isinstance(component.loss, WholeVocabulary):
            scale = component.weight / _size(component)
            sums[component.name] += reverse_kl_backward(model, component.loss.teacher, part, scale)
        else:
            of_logprobs.append((component, component.loss))

    def whole(logprobs: Tensor) -> Tensor:
        total = logprobs.new_zeros(())
        for component, loss in of_logprobs:
            value = loss(logprobs, part, index)
            sums[component.name] += float(value.detach())
            total = total + component.weight / _size(component) * value
        return total

    if of_logprobs:
        backward(model, part, whole, temperature)


def _size(component: Component) -> float:
    """What a component's sum is divided by."""
    texts = component.texts
    return float(texts.mask.sum().clamp_min(1)) if component.over == "tokens" else float(len(texts))


def add_up_gradients(model: Transformer, world: World) -> None:
    """Give every process the sum of all processes' gradients; what no process has stays without."""
    if world.size == 1:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    has = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=world.device)
    found = world.sum_(has).tolist()
    for parameter, count in zip(parameters, found, strict=True):
        if count:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            world.sum_(parameter.grad)


# -- losses


def cross_entropy(logprobs: Tensor, part: Texts, index: Tensor) -> Tensor:
    """Minus the log-probability of each token: the texts are taken as right."""
    return -(logprobs * part.mask).sum()


def policy(
    name: str, advantages: Tensor, clips: tuple[float, float], longest: int, bound: float | None = None
) -> tuple[Loss, Over]:
    """The policy loss `name` of `fathom.reason.losses` and what it is a mean over; `advantages` (N,), one a text.

    With a `bound`, bad texts that the policy has moved away from are left out (DeepSeek-V3.2).
    """
    over: Over = "tokens" if name in ("dapo", "cispo") else "texts"

    def loss(logprobs: Tensor, part: Texts, index: Tensor) -> Tensor:
        gains, mask = advantages[index], part.mask
        if bound is not None:
            mask = mask * kept_texts(logprobs, part.old, gains, mask, bound)
        mean = LOSSES[name](logprobs, part.old, gains, mask, *clips, longest)
        return mean * (part.mask.sum() if over == "tokens" else len(part))

    return loss, over


def to_reference(reference: Transformer, unbiased: bool, temperature: float) -> Loss:
    """The estimate of KL(policy, reference) at each token."""

    def loss(logprobs: Tensor, part: Texts, index: Tensor) -> Tensor:
        theirs = logprobs_of(reference, part.plain(), temperature)
        return reference_kl(logprobs, part.old, theirs, part.mask, unbiased) * part.mask.sum()

    return loss


def gap(logprobs: Tensor, part: Texts, index: Tensor) -> Tensor:
    """How far the log-probabilities are from those with which the texts were drawn."""
    return ((logprobs - part.old).abs() * part.mask).sum()


def sampled_reverse_kl(teacher: Tensor) -> Measured:
    """KL(student, teacher) at the tokens the student drew, `teacher` (N, S) holding the teacher's log-probabilities.

    Each token's log-ratio teacher / student is its reward, in the policy gradient with the importance ratio to the
    policy that wrote it; what a token does to those after it is left out, as is common in on-policy distillation.
    """

    def loss(logprobs: Tensor, part: Texts, index: Tensor) -> Tensor:
        theirs = teacher[index][:, : part.mask.shape[1]]
        apart = (logprobs - theirs).detach()
        surrogate = ((logprobs - part.old).exp() * apart * part.mask).sum()
        # The gradient is the surrogate's; the value that is told is the KL's own estimate.
        return surrogate - surrogate.detach() + (apart * part.mask).sum()

    return loss


def full_reverse_kl(teacher: Transformer) -> Measured:
    """KL(student, teacher) over the whole vocabulary, at each token's place."""
    return WholeVocabulary(teacher)
