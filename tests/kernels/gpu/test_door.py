"""Where Triton's kernels may be used, and that one which does not do as its reference does is left alone."""

import pytest
import torch

from fathom.kernels.gpu import door


@pytest.fixture(autouse=True)
def as_without_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FATHOM_TRITON", raising=False)


def test_tensors_on_the_cpu_have_their_own_kernels() -> None:
    assert not door.usable(torch.zeros(2))


def test_the_interpreter_stands_for_the_device_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_TRITON", "interpret")
    monkeypatch.setattr(door, "importable", lambda: True)
    assert door.usable(torch.zeros(2))
    assert not door.usable(torch.zeros(2, dtype=torch.float64))
    assert not door.usable(torch.zeros(2), torch.zeros(2, device="meta"))


def test_without_triton_every_operation_keeps_its_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_TRITON", "interpret")
    monkeypatch.setattr(door, "importable", lambda: False)
    assert not door.usable(torch.zeros(2))


def test_a_kernel_that_is_right_is_used() -> None:
    assert door.agrees("sum", lambda: torch.ones(3) + 1e-6, lambda: torch.ones(3))


@pytest.mark.parametrize("made", [[1.0, 2.0], [1.0, float("nan")]])
def test_a_kernel_that_is_wrong_is_named_and_left_alone(made: list[float], caplog: pytest.LogCaptureFixture) -> None:
    assert not door.agrees("sum", lambda: torch.tensor(made), lambda: torch.ones(2))
    assert "sum is off" in caplog.text


def test_a_kernel_that_fails_is_named_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> torch.Tensor:
        raise RuntimeError("out of shared memory")

    assert not door.agrees("sum", fails, lambda: torch.ones(2))
    assert "out of shared memory" in caplog.text
