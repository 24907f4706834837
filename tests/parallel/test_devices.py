"""Which device a process takes, without there being one: PyTorch's answers are given for it."""

import pytest
import torch

from fathom.errors import RecipeError, UsageError
from fathom.parallel.mesh import _device, one_process


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    return taken


def test_each_process_takes_the_gpu_of_its_place_on_its_machine(two_gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert _device("auto") == torch.device("cuda", 1)
    assert two_gpus == [torch.device("cuda", 1)]
    assert _device("cpu") == torch.device("cpu")


def test_more_processes_than_gpus_are_refused(two_gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RecipeError, match="--nproc-per-node 2"):
        _device("auto")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="no CUDA device"):
        _device("cuda")


def test_auto_goes_by_what_the_user_named(two_gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_DEVICE", "cuda")
    assert _device("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("FATHOM_DEVICE", "cpu")
    assert _device("auto") == torch.device("cpu")
    assert _device("cuda") == torch.device("cuda", 0)


def test_work_that_is_not_shared_refuses_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_DEVICE", "cpu")
    assert one_process().size == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        one_process()
