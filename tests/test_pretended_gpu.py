"""Every path to a GPU with a device that is pretended: tensors of two devices would raise; numbers are the CPU's."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fathom.config.train import TrainConfig
from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.sampling import SamplingParams
from fathom.evaluate.bits_per_byte import bits_per_byte
from fathom.kernels import fp8
from fathom.model.cache import make_cache
from fathom.model.fp8 import hold_fp8
from fathom.model.quantised import quantise_model
from fathom.parallel.mesh import World
from fathom.train.ema import ParameterAverage
from fathom.train.optimizer import Optimizer
from fathom.train.step import apply_update, compute_gradients
from pretended import pretended_gpu
from small import LLAMA, V2, V3, small_config, small_model

WIDE = {"hidden_size": 32, "moe_intermediate_size": 32, "intermediate_size": 64}
CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    monkeypatch.setenv("FATHOM_TRITON", "0")
    monkeypatch.setenv("FATHOM_GRAPHS", "0")
    monkeypatch.setattr("fathom.engine.memory.free_memory", lambda device: 1 << 30)
    with pretended_gpu() as device:
        yield device


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(0))


def test_two_devices_in_one_operation_are_refused(gpu) -> None:
    with pytest.raises(RuntimeError, match="two devices"):
        torch.ones(2).to(gpu) + torch.ones(2)
    with pytest.raises(TypeError, match="host memory"):
        torch.ones(2).to(gpu).numpy()


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_training_steps_are_those_of_the_cpu(gpu, kind: str) -> None:
    def trained(device: torch.device) -> list[float]:
        model = small_model(small_config(V3)).train().to(device)
        train = TrainConfig(steps=10, optimizer={"kind": kind})
        optimizer = Optimizer(train.optimizer, model.named_parameters(), fp32=True)
        numbers = []
        for step in range(2):
            made = compute_gradients(model, tokens(4, 14).to(device), train, World(device), step, 10)
            apply_update(model, optimizer, made, train, step, 10)
            numbers += [made.loss, made.norm_value]
        average = ParameterAverage(dict(model.named_parameters()), 0.9, 1)
        average.update(1)
        with average.in_place():
            pass
        return numbers

    assert trained(gpu) == pytest.approx(trained(CPU), rel=1e-4)


def test_training_in_bfloat16_runs_by_sorted_experts_and_keeps_what_recompute_says(gpu) -> None:
    model = small_model(small_config(V3, **WIDE)).train().to(gpu)
    model.compute_dtype, model.recompute = torch.bfloat16, "norms_and_up_projections"
    trunk = model.trunk(tokens(2, 12).to(gpu), depths=1, balance_loss=True)
    assert trunk.balance_loss is not None
    (trunk.hidden.sum() + trunk.mtp_hidden[0].sum() + trunk.balance_loss).backward()
    assert all(parameter.grad is None or parameter.grad.device == gpu for parameter in model.parameters())


@pytest.mark.parametrize(("base", "speculation"), [(V3, "off"), (V3, "mtp"), (V2, "lookup"), (LLAMA, "off")])
def test_completions_are_those_of_the_cpu(gpu, base, speculation) -> None:
    plain = {"max_tokens": 6, "ignore_eos": True, "seed": 1}
    more = {"repetition_penalty": 1.2, "presence_penalty": 0.3, "top_k": 5, "top_p": 0.9, "logprobs": 2}
    params = [
        SamplingParams(temperature=0.0, **plain),
        SamplingParams(temperature=0.9, record_kept=True, **plain, **more),
    ]

    def written(device: torch.device) -> list[list[int]]:
        config = EngineConfig(max_batch_size=4, block_size=4, cache_tokens=200, speculation=speculation)
        engine = Engine(small_model(small_config(base)).to(device), config=config)
        return [completion.tokens for completion in engine.generate([[1, 2, 3], [4, 5]], params)]

    assert written(gpu) == written(CPU)


@pytest.mark.parametrize("weights", ["int8", "int4", "fp8"])
def test_weight_formats_are_made_and_run_there(gpu, weights: str) -> None:
    model = small_model(small_config(V3, **WIDE)).to(gpu)
    if weights == "fp8":
        names = {f"{name}.weight" for name, module in model.named_modules() if name.endswith(("q_proj", "o_proj"))}
        kept = {name: fp8.quantise(model.get_parameter(name).detach(), (128, 128)) for name in names}
        hold_fp8(model, names, (128, 128), torch.float32)
        for name, (values, scale) in kept.items():
            model.state_dict()[name].copy_(values)
            model.state_dict()[f"{name}_scale_inv"].copy_(scale)
    else:
        quantise_model(model, weights)
    with torch.no_grad():
        logits = model(tokens(1, 7).to(gpu)).logits
    assert logits.device == gpu
    assert bool(logits.isfinite().all())


def test_held_out_text_is_judged_and_a_contiguous_cache_filled(gpu) -> None:
    model = small_model(small_config(V3)).to(gpu)
    sizes = {"context": 16, "stride": 8, "batch_sequences": 2}
    there = bits_per_byte(model, np.arange(50) % 60, 200, World(gpu), **sizes).value
    cache = make_cache(model.config, 2, 20, device=gpu)
    with torch.no_grad():
        model(tokens(2, 5).to(gpu), cache=cache)
    here = bits_per_byte(small_model(small_config(V3)), np.arange(50) % 60, 200, World(CPU), **sizes).value
    assert there == pytest.approx(here, rel=1e-5)


def test_a_device_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fathom.errors import UsageError
    from fathom.parallel.device import best_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == "cpu"
    for wrong in ("cuda", "cuda:1", "gpu", "cpu:0"):
        monkeypatch.setitem(os.environ, "FATHOM_DEVICE", wrong)
        with pytest.raises(UsageError, match="FATHOM_DEVICE"):
            best_device()
