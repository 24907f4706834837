"""What only a CUDA device can show: run by `pytest -m gpu`. These have never been run; see docs/gpu.md."""

import pytest
import torch

from fathom.config.parallel import ParallelConfig
from fathom.config.train import TrainConfig
from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.sampling import SamplingParams
from fathom.kernels.gpu import door
from fathom.model.quantised import quantise_model
from fathom.parallel.mesh import processes
from fathom.train.optimizer import Optimizer
from fathom.train.step import apply_update, compute_gradients
from small import LLAMA, V2, V3, small_config, small_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
WIDE = {"hidden_size": 64, "moe_intermediate_size": 32, "intermediate_size": 64}
GREEDY = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8]]


def engine_on(device: str, base, **config) -> Engine:
    model = small_model(small_config(base)).to(device)
    return Engine(model, config=EngineConfig(max_batch_size=8, cache_tokens=800, **config))


def logprobs(engine: Engine) -> list[float]:
    return [number for completion in engine.generate(PROMPTS, GREEDY) for number in completion.logprobs]


@pytest.mark.parametrize("base", [V3, V2, LLAMA])
def test_completions_are_those_of_the_cpu(base) -> None:
    assert logprobs(engine_on("cuda", base)) == pytest.approx(logprobs(engine_on("cpu", base)), abs=1e-4)


def test_decode_steps_are_recorded_and_say_what_single_launches_say(monkeypatch, caplog) -> None:
    recorded = engine_on("cuda", V3)
    with_graphs = logprobs(recorded)
    graphs = recorded.core.runner._graphs
    assert graphs is not None
    assert graphs._recorded, caplog.text
    monkeypatch.setenv("FATHOM_GRAPHS", "0")
    assert with_graphs == pytest.approx(logprobs(engine_on("cuda", V3)), abs=1e-4)


def test_new_weights_are_seen_by_recorded_steps() -> None:
    engine = engine_on("cuda", V3)
    before = logprobs(engine)
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.mul_(1.1)
    assert logprobs(engine) != pytest.approx(before, abs=1e-3)


def test_speculation_changes_no_token() -> None:
    plain = [c.tokens for c in engine_on("cuda", V3).generate(PROMPTS, GREEDY)]
    assert [c.tokens for c in engine_on("cuda", V3, speculation="mtp").generate(PROMPTS, GREEDY)] == plain


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_weights_in_few_bits_run_by_tritons_kernels(weights: str) -> None:
    here, there = (quantise_model(small_model(small_config(V3, **WIDE)), weights) for _ in range(2))
    there.to("cuda")
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        expected, made = here(tokens).logits.float(), there(tokens.cuda()).logits.float().cpu()
    torch.testing.assert_close(made, expected, atol=0.05 * float(expected.abs().max()), rtol=0)


def test_every_kernel_stands_its_trial(caplog) -> None:
    from fathom.kernels.gpu import experts, paged_attention, products

    device = torch.device("cuda", torch.cuda.current_device())
    assert door.usable(torch.zeros(1, device=device))
    for dtype in (torch.float32, torch.bfloat16):
        assert paged_attention.latent_stands(device, dtype, 128, 576, 512, 16), caplog.text
        assert paged_attention.grouped_stands(device, dtype, 32, 128, 8, 16), caplog.text
        assert experts.experts_stand(device, dtype), caplog.text
        for kind, block in ((products.EIGHT_BITS, (1, 32)), (products.FOUR_BITS, (1, 32)), (products.FP8, (128, 128))):
            assert products.linear_stands(device, dtype, kind, block), caplog.text


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_training_step_is_that_of_the_cpu(precision: torch.dtype) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        with processes(ParallelConfig(device=device)) as world:
            model = small_model(small_config(V3, **WIDE)).train().to(world.device)
            model.compute_dtype = precision
            train = TrainConfig(steps=10)
            optimizer = Optimizer(train.optimizer, model.named_parameters(), fp32=precision == torch.float32)
            rows = torch.randint(0, 60, (4, 22), generator=torch.Generator().manual_seed(0)).to(world.device)
            for step in range(3):
                gradients = compute_gradients(model, rows, train, world, step, 10)
                apply_update(model, optimizer, gradients, train, step, 10)
            losses.append(gradients.loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4 if precision == torch.float32 else 2e-2)
