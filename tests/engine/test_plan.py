"""The native plan says what the model's own forward pass says, and says it bit for bit in any company."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fathom.engine.plan import Plan, make_plan
from fathom.kernels.decode import program
from fathom.model.paged import PagedBatch, PagedStores
from fathom.model.residual import Add
from fathom.model.transformer import Transformer
from ragged import make_ragged
from small import LLAMA, LLAMA3, QWEN2, V2, V3, YARN, small_config, small_model

BLOCK = 4
SEQUENCES = [(0, 7), (9, 1), (3, 1), (5, 4), (0, 1)]
NETWORKS = {
    "V3": V3,
    "V3 with compressed queries and biases": V3 | {"q_lora_rank": 10, "attention_bias": True},
    "V3 without groups": V3 | {"n_group": 1, "topk_group": 1, "norm_topk_prob": False},
    "V3 without shared experts": V3 | {"n_shared_experts": 0},
    "V3, dense": V3 | {"first_k_dense_replace": 3},
    "V3, tied": V3 | {"tie_word_embeddings": True},
    "V3 with YaRN": V3 | {"rope_scaling": YARN},
    "V3, latents of odd width": V3 | {"kv_lora_rank": 9, "first_k_dense_replace": 3},
    "V2": V2,
    "V2, greedy": V2 | {"topk_method": "greedy"},
    "Llama": LLAMA | {"tie_word_embeddings": True},
    "Llama 3": LLAMA | {"rope_scaling": LLAMA3, "attention_bias": True},
    "Qwen2": QWEN2,
}
WIDE = V3 | {
    "hidden_size": 96,
    "num_attention_heads": 3,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "moe_intermediate_size": 48,
    "intermediate_size": 100,
    "max_position_embeddings": 1024,
}


@pytest.fixture(autouse=True)
def _native() -> None:
    if program.library() is None:
        pytest.skip("no C++ compiler on this machine")


def plan_of(model: Transformer, threads: int = 1) -> Plan:
    plan = make_plan(model, threads)
    assert plan is not None
    return plan


class Step:
    """Seeded tokens of some sequences, with caches that hold seeded rows for what came before them."""

    def __init__(self, model: Transformer, lengths: list[tuple[int, int]]) -> None:
        self.model = model
        self.ragged, self.blocks = make_ragged(lengths, BLOCK)
        generator = torch.Generator().manual_seed(3)
        total = sum(new for _, new in lengths)
        self.tokens = torch.randint(0, model.config.vocab_size, (total,), generator=generator)
        self.positions = torch.cat([torch.arange(before, before + new) for before, new in lengths])
        self.every = torch.arange(total)

    def cache(self) -> PagedBatch:
        memory = PagedStores(self.model.config, self.blocks, BLOCK, self.model.compute_dtype)
        for store in memory.stores:
            store.fill_(float("nan"))
            generator = torch.Generator().manual_seed(4)
            for n, keys in enumerate(self.ragged.keys):
                for t in range(keys):
                    row = torch.randn(store.shape[0], store.shape[3], generator=generator)
                    store[:, self.ragged.tables[n, t // BLOCK], t % BLOCK] = row.to(store.dtype)
        return PagedBatch(memory, self.ragged)

    def plainly(self) -> tuple[Tensor, Tensor, PagedBatch]:
        cache = self.cache()
        with torch.inference_mode():
            trunk = self.model.trunk(self.tokens[None], positions=self.positions[None], cache=cache)
            return self.model.head(trunk.hidden[0]), trunk.hidden[0], cache

    def by_plan(self, plan: Plan) -> tuple[Tensor, Tensor, PagedBatch]:
        cache = self.cache()
        logits, hidden = plan(self.tokens, self.positions, cache, self.every, with_hidden=True)
        assert hidden is not None
        return logits, hidden, cache


@pytest.mark.parametrize("network", NETWORKS)
def test_a_plan_says_what_the_model_says(network: str) -> None:
    model = small_model(small_config(NETWORKS[network]))
    step = Step(model, SEQUENCES)
    logits, hidden, cache = step.plainly()
    planned_logits, planned_hidden, planned_cache = step.by_plan(plan_of(model))
    torch.testing.assert_close(planned_logits.log_softmax(-1), logits.log_softmax(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(planned_hidden, hidden, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(planned_cache.memory.stores, cache.memory.stores, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("network", ["V3, dense", "V3, latents of odd width", "Llama", "Qwen2"])
def test_in_bf16_a_plan_is_as_close_to_the_exact_model_as_the_modules_are(network: str) -> None:
    config = small_config(NETWORKS[network])
    model = small_model(config, dtype=torch.bfloat16)
    exact = small_model(config)
    exact.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    step = Step(model, SEQUENCES)
    logits, planned = step.plainly()[0].float(), step.by_plan(plan_of(model))[0]
    step.model = exact
    truth = step.plainly()[0]
    assert (planned - truth).pow(2).mean() < 1.5 * (logits - truth).pow(2).mean()


def test_masters_in_fp32_may_be_read_as_bf16() -> None:
    model = small_model(small_config(V3, first_k_dense_replace=3))
    model.compute_dtype = torch.bfloat16
    step = Step(model, SEQUENCES)
    torch.testing.assert_close(step.by_plan(plan_of(model))[0], step.plainly()[0].float(), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("network", [WIDE, LLAMA | {"max_position_embeddings": 1024}], ids=["MLA", "grouped"])
class TestInAnyCompany:
    """Every comparison here is of bits."""

    def test_a_sequence_says_the_same_alone_and_in_a_batch(self, network: dict, dtype: torch.dtype) -> None:
        model = small_model(small_config(network), dtype=dtype)
        plan = plan_of(model)
        step = Step(model, [(0, 300), (700, 1), (0, 40), *[(13, 1)] * 9])
        together, _, cache = step.by_plan(plan)
        for n, start, end in step.ragged.spans():
            alone = Step(model, [(step.ragged.keys[n] - step.ragged.queries[n], step.ragged.queries[n])])
            alone.tokens = step.tokens[start:end]
            mine = alone.cache()
            for t in range(step.ragged.keys[n]):
                for store, other in zip(mine.memory.stores, cache.memory.stores, strict=True):
                    place = store[:, alone.ragged.tables[0, t // BLOCK], t % BLOCK]
                    place.copy_(other[:, step.ragged.tables[n, t // BLOCK], t % BLOCK])
            logits, _ = plan(alone.tokens, alone.positions, mine, alone.every)
            assert torch.equal(logits, together[start:end])

    def test_a_prompt_says_the_same_whole_and_in_pieces(self, network: dict, dtype: torch.dtype) -> None:
        model = small_model(small_config(network), dtype=dtype)
        plan = plan_of(model)
        whole = Step(model, [(0, 520)])
        expected, _, cache = whole.by_plan(plan)
        pieces = whole.cache()
        start = 0
        for length in (1, 254, 1, 1, 100, 37, 126):
            end = start + length
            step = Step(model, [(start, length)])
            batch = PagedBatch(pieces.memory, step.ragged)
            step.ragged.tables.copy_(whole.ragged.tables[:, : step.ragged.tables.shape[1]])
            logits, _ = plan(whole.tokens[start:end], whole.positions[start:end], batch, torch.arange(length))
            assert torch.equal(logits, expected[start:end])
            start = end
        for mine, other in zip(pieces.memory.stores, cache.memory.stores, strict=True):
            assert torch.equal(mine.nan_to_num(), other.nan_to_num())

    def test_the_number_of_threads_changes_nothing(self, network: dict, dtype: torch.dtype) -> None:
        model = small_model(small_config(network), dtype=dtype)
        step = Step(model, [(0, 70), (900, 1), (300, 2)])
        one = step.by_plan(plan_of(model, 1))[0]
        for threads in (2, 3):
            assert torch.equal(step.by_plan(plan_of(model, threads))[0], one)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=5), st.booleans())
def test_any_mix_of_sequences_is_read(lengths: list[tuple[int, int]], latent: bool) -> None:
    model = small_model(small_config(V3 if latent else LLAMA))
    step = Step(model, lengths)
    logits, _, _ = step.plainly()
    torch.testing.assert_close(step.by_plan(plan_of(model))[0], logits, atol=1e-4, rtol=1e-4)


def test_only_wanted_rows_get_logits() -> None:
    model = small_model()
    step = Step(model, SEQUENCES)
    plan, wanted = plan_of(model), torch.tensor([6, 0, 12])
    every = step.by_plan(plan)[0]
    some, hidden = plan(step.tokens, step.positions, step.cache(), wanted)
    assert torch.equal(some, every[wanted])
    assert hidden is None
    none, _ = plan(step.tokens, step.positions, step.cache(), torch.tensor([], dtype=torch.int64))
    assert none.shape == (0, model.config.vocab_size)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_changed_weights_are_read_after_a_refresh(compute: torch.dtype) -> None:
    model = small_model(small_config(V3, first_k_dense_replace=3))
    model.compute_dtype = compute
    step, plan = Step(model, SEQUENCES), plan_of(model)
    before = step.by_plan(plan)[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    plan.refresh()
    after = step.by_plan(plan)[0]
    assert not torch.equal(after, before)
    assert torch.equal(after, step.by_plan(plan_of(model))[0])


def test_nan_stays_with_the_sequence_that_has_it() -> None:
    model = small_model()
    step, plan = Step(model, SEQUENCES), plan_of(model)
    healthy = step.by_plan(plan)[0]
    cache = step.cache()
    cache.memory.stores[0][:, step.ragged.tables[1, 0]] = float("nan")
    logits, _ = plan(step.tokens, step.positions, cache, step.every)
    struck = int(step.ragged.starts[1])
    assert logits[struck].isnan().all()
    rest = [t for t in step.every.tolist() if t != struck]
    assert torch.equal(logits[rest], healthy[rest])


def test_a_model_with_an_unknown_part_has_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(Add):
        """A residual rule that no plan has heard of."""

    model = small_model()
    model.model.layers[1].attention_residual = Strange(model.config)
    assert make_plan(model) is None

    assert make_plan(small_model(dtype=torch.float64)) is None


def test_without_a_compiler_there_is_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_NATIVE", "0")
    program.library.cache_clear()
    try:
        assert make_plan(small_model()) is None
    finally:
        program.library.cache_clear()
