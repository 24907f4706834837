"""Decode steps that are recorded and replayed give what steps launched one by one give, whoever is in them.

The recorder here stands in for CUDA's: it replays by running the pass again on the same buffers.
"""

import importlib.util

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.engine import graphs
from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.graphs import DecodeGraphs, Recorded, batch_sizes, make_graphs
from fathom.engine.sampling import SamplingParams
from fathom.kernels import native
from fathom.kernels.paged_attention import Ragged
from fathom.model.paged import PagedStores
from interpreted import interpret
from small import LLAMA, V3, small_config, small_model

MODELS = {"v3": small_model(small_config(V3)), "llama": small_model(small_config(LLAMA))}
REQUESTS = st.lists(st.tuples(st.lists(st.integers(0, 60), min_size=1, max_size=9), st.integers(1, 7)), max_size=7)
FIXTURES = [HealthCheck.function_scoped_fixture]


class StandIn:
    """Replays by running again, into the tensors that the first run made."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.replayed: list[int] = []

    def __call__(self, run) -> Recorded:
        logits, hidden = (made.clone() for made in run())
        self.recorded.append(len(logits))

        def replay() -> None:
            self.replayed.append(len(logits))
            for kept, made in zip((logits, hidden), run(), strict=True):
                kept.copy_(made)

        return Recorded(replay, logits, hidden)


@pytest.fixture(autouse=True)
def without_a_plan(monkeypatch: pytest.MonkeyPatch):
    native.library.cache_clear()
    monkeypatch.setenv("FATHOM_NATIVE", "0")
    monkeypatch.setattr("fathom.engine.plan.library", lambda: None)
    yield
    native.library.cache_clear()


@pytest.fixture
def lengths_for_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the plain attention, which loops in Python, see the lengths that are in the buffers."""

    def ragged(buffers: graphs._Buffers) -> Ragged:
        B = len(buffers.tables)
        lengths = buffers.numbers[3].int()
        starts = torch.arange(B + 1, dtype=torch.int32)
        return Ragged(buffers.numbers[2], buffers.tables, lengths, starts, (1,) * B, tuple(lengths.tolist()))

    monkeypatch.setattr(graphs._Buffers, "ragged", ragged)


def engine_of(model, recorder: StandIn | None, largest: int = 4) -> Engine:
    engine = Engine(model, config=EngineConfig(max_batch_size=6, block_size=4, cache_tokens=400))
    if recorder is not None:
        runner = engine.core.runner
        runner._graphs = DecodeGraphs(model, runner.memory, recorder, largest)
    return engine


def params(tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, temperature=0.7, seed=tokens, ignore_eos=True)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10, deadline=None, suppress_health_check=FIXTURES)
@given(requests=REQUESTS)
def test_completions_are_those_of_steps_launched_one_by_one(lengths_for_python, name, requests) -> None:
    prompts, asked = [prompt for prompt, _ in requests], [params(tokens) for _, tokens in requests]
    expected = engine_of(MODELS[name], None).generate(prompts, asked)
    made = engine_of(MODELS[name], StandIn()).generate(prompts, asked)
    for one, other in zip(made, expected, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_a_step_is_padded_to_the_next_size_and_recorded_once(lengths_for_python) -> None:
    recorder = StandIn()
    engine = engine_of(MODELS["v3"], recorder, largest=4)
    engine.generate([[1, 2], [3], [4, 5, 6]], [params(9), params(9), params(3)])
    assert sorted(set(recorder.replayed)) == [2, 4]
    assert sorted(recorder.recorded) == [2, 4]


def test_more_sequences_than_the_largest_size_are_read_as_ever(lengths_for_python) -> None:
    recorder = StandIn()
    engine = engine_of(MODELS["v3"], recorder, largest=2)
    engine.generate([[1, 2]] * 5, [params(4)] * 5)
    assert recorder.replayed == []


def test_sequences_that_fill_up_leave_every_other_row_alone(lengths_for_python) -> None:
    engine = engine_of(MODELS["v3"], StandIn(), largest=4)
    engine.generate([[1, 2, 3, 4, 5]] * 3, [params(4)] * 3)
    store = engine.core.memory.stores[0]
    used = {int(block) for block in (store[0].abs().sum((1, 2)) > 0).nonzero()}
    fresh = engine_of(MODELS["v3"], None)
    fresh.generate([[1, 2, 3, 4, 5]] * 3, [params(4)] * 3)
    plain = fresh.core.memory.stores[0]
    assert used - {0} == {int(block) for block in (plain[0].abs().sum((1, 2)) > 0).nonzero()} - {0}
    torch.testing.assert_close(store[:, 1:], plain[:, 1:], atol=1e-5, rtol=1e-5)


def test_what_cannot_be_recorded_is_launched_one_by_one_and_said(caplog) -> None:
    recorder = StandIn()
    completions = engine_of(MODELS["v3"], recorder).generate([[1, 2, 3]], params(5))
    assert completions[0].tokens == engine_of(MODELS["v3"], None).generate([[1, 2, 3]], params(5))[0].tokens
    assert recorder.replayed == []
    assert "cannot be recorded" in caplog.text


def test_graphs_are_for_cuda_devices() -> None:
    model = MODELS["v3"]
    assert make_graphs(model, PagedStores(model.config, 4, 4)) is None


def test_sizes_leave_little_to_pad() -> None:
    assert batch_sizes(1) == (1,)
    assert batch_sizes(6) == (1, 2, 4, 6)
    assert batch_sizes(20) == (1, 2, 4, 8, 16, 20)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels run on the GPU of this machine")
@pytest.mark.parametrize("name", MODELS)
def test_tritons_kernels_need_no_lengths_from_python(monkeypatch, name) -> None:
    expected = engine_of(MODELS[name], None).generate([[1, 2, 3], [4]], [params(3), params(2)])
    interpret(monkeypatch)
    recorder = StandIn()
    made = engine_of(MODELS[name], recorder).generate([[1, 2, 3], [4]], [params(3), params(2)])
    assert recorder.replayed
    for one, other in zip(made, expected, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
