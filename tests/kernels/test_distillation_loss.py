"""A student's distance from its teacher, chunk by chunk, is the plain formula's."""

import pytest
import torch

from fathom.kernels import distillation
from fathom.kernels.distillation import linear_distillation, linear_distillation_reference


def numbers(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 40, (150,), generator=generator)
    weights = torch.rand(150, generator=generator, dtype=torch.float64).to(dtype)
    return draw(150, 12), draw(40, 12), draw(150, 6), draw(40, 6), targets, weights


@pytest.mark.parametrize("share", [1.0, 0.7, 0.0])
def test_values_and_gradients_are_the_formulas(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "CHUNK_BYTES", 1)
    found, expected = [], []
    for function, results in ((linear_distillation, found), (linear_distillation_reference, expected)):
        hidden, head, *others = numbers(torch.float64)
        hidden.requires_grad_()
        head.requires_grad_()
        loss, nll, kl = function(hidden, head, *others, share)
        loss.backward()
        results += [loss.detach(), nll, kl, hidden.grad, head.grad]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    hidden, head, _, _, targets, weights = numbers(torch.float32)
    hidden.requires_grad_()
    loss, _, kl = linear_distillation(hidden, head, hidden.detach(), head, targets, weights, 1.0)
    loss.backward()
    assert kl.abs().max() < 1e-5
    assert hidden.grad is not None
    assert hidden.grad.abs().max() < 1e-6
