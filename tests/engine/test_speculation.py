"""Guessing ahead changes how many steps a text takes, and nothing else."""

from dataclasses import replace
from random import Random

import pytest
import torch

from fathom.engine import judge
from fathom.engine.engine import Engine, EngineConfig, FinishReason
from fathom.engine.lookup import LookupDrafter
from fathom.engine.mtp_drafter import MTPDrafter
from fathom.engine.mtp_pass import MTPPass
from fathom.engine.sampling import SamplingParams
from fathom.engine.structured import StructuredOutput
from fathom.engine.thinking import ThinkingLimit
from fathom.errors import GenerationError
from fathom.model.transformer import Transformer
from small import LLAMA, small_config, small_model

KINDS = ["mtp", "lookup"]
SMALL = EngineConfig(block_size=4, max_batch_size=4, max_batched_tokens=12, cache_tokens=200, num_speculative_tokens=3)


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Guess in every step, whether it pays or not."""
    monkeypatch.setattr(judge, "PROBE_STEPS", 10**9)
    monkeypatch.setattr(judge, "PROBE_GUESSES", 99)


@pytest.fixture(scope="module")
def exact(model):
    """The model in FP64, where sums in another order do not matter."""
    made = Transformer(model.config).double()
    made.load_state_dict(model.state_dict())
    made.compute_dtype = torch.float64
    return made.eval()


def mixed(tokenizer):
    """Requests of every kind."""
    start, end = (tokenizer.reserved_id(name) for name in ("<think>", "</think>"))
    limit = ThinkingLimit(start=start, end=end, max_tokens=6, answer_tokens=4, closing=tuple(tokenizer.encode(" so")))
    base = SamplingParams(max_tokens=20, ignore_eos=True)
    return [
        replace(base, temperature=0),
        replace(base, temperature=0, repetition_penalty=1.3, logprobs=2),
        replace(base, seed=1),
        replace(base, seed=2, temperature=0.7, top_k=20, top_p=0.9, min_p=0.01, record_kept=True),
        replace(base, seed=3, frequency_penalty=0.8, presence_penalty=0.3, logit_bias={7: 4.0}),
        replace(base, seed=4, structured=StructuredOutput(regex="([ab]{3}-){3}")),
        replace(base, seed=5, thinking=limit, structured=StructuredOutput(json_schema={"enum": ["deep", "flat"]})),
        replace(base, seed=6, thinking=replace(limit, opened=True)),
        replace(base, temperature=0, ignore_eos=False, min_tokens=5, stop="e"),
        replace(base, max_tokens=1, seed=7),
        replace(base, max_tokens=2, temperature=0),
    ]


PROMPTS = [[5, 100, 7], [9] * 11, [3, 4, 3, 4, 3, 4, 3], [300, 42], list(range(20, 38))]


def completions(model, tokenizer, many, config=SMALL, prompts=PROMPTS):
    engine = Engine(model, tokenizer, config)
    asked = [prompts[i % len(prompts)] for i in range(len(many))]
    return engine.generate(asked, many), engine


def assert_same(one, other):
    assert [c.tokens for c in one] == [c.tokens for c in other]
    assert [(c.finish_reason, c.text) for c in one] == [(c.finish_reason, c.text) for c in other]
    for a, b in zip(one, other, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-9)
        if a.kept is not None:
            assert [k is None or k.tolist() for k in a.kept] == [k is None or k.tolist() for k in b.kept]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_request_is_answered_as_without_guesses(exact, tokenizer, kind):
    many = mixed(tokenizer)
    plain, _ = completions(exact, tokenizer, many)
    guessed, engine = completions(exact, tokenizer, many, replace(SMALL, speculation=kind))
    assert_same(plain, guessed)
    assert sum(engine.metrics().drafted) > (40 if kind == "mtp" else 10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_native_plan_gives_the_same_bits_with_guesses(model, tokenizer, kind):
    many = mixed(tokenizer)
    plain, engine = completions(model, tokenizer, many)
    if engine.core.runner._plan is None:
        pytest.skip("no compiler: the modules' sums depend on how many tokens are read at once")
    guessed, _ = completions(model, tokenizer, many, replace(SMALL, speculation=kind))
    assert [c.tokens for c in plain] == [c.tokens for c in guessed]
    assert [c.logprobs for c in plain] == [c.logprobs for c in guessed]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_interruptions_branches_and_prompts_in_pieces_change_nothing(exact, tokenizer, kind, seed):
    random = Random(seed)
    many = [
        SamplingParams(
            max_tokens=random.randint(1, 24),
            temperature=random.choice([0, 1.0]),
            seed=random.randrange(100),
            n=random.choice([1, 1, 3]),
            ignore_eos=True,
        )
        for _ in range(10)
    ]
    shared = [random.randrange(512) for _ in range(9)]
    prompts = [shared + [random.randrange(512) for _ in range(random.randint(0, 12))] for _ in range(10)]
    tight = EngineConfig(
        block_size=random.choice([1, 3, 4]),
        max_batch_size=5,
        max_batched_tokens=random.choice([5, 9]),
        cache_tokens=64,
        speculation=kind,
        num_speculative_tokens=5,
    )
    guessed, engine = completions(exact, tokenizer, many, tight, prompts)
    plain, _ = completions(exact, tokenizer, many, EngineConfig(cache_tokens=2000), prompts)
    assert_same(plain, guessed)
    assert engine.metrics().preemptions > 0
    assert engine.metrics().blocks_in_use == 0


class Spy:
    """Remembers what a drafter guessed after which tokens."""

    def __init__(self, drafter):
        self._drafter, self.layers, self.seen = drafter, drafter.layers, []

    def weights_changed(self):
        self._drafter.weights_changed()

    def draft(self, reading, sequences):
        drafts = self._drafter.draft(reading, sequences)
        self.seen += [(list(s.tokens), list(d)) for s, d in zip(sequences, drafts, strict=True) if d]
        return drafts


def reference_guesses(model, tokens, count):
    """What the module says without a cache, going on from itself."""
    with torch.no_grad():
        ids = torch.tensor([tokens])
        hidden = model.trunk(ids[:, :-1]).hidden
        guesses = []
        for _ in range(count):
            positions = torch.arange(hidden.shape[1])[None]
            following = torch.tensor([tokens[1:] + guesses])
            made = model.mtp(hidden, following, positions)
            guesses.append(int(model.head(made[0, -1]).argmax()))
            hidden = torch.cat((hidden, made[:, -1:]), 1)
        return guesses


@pytest.mark.parametrize("precision", ["exact", "model"])
def test_guesses_are_those_of_the_module_read_at_once(request, precision):
    """Through prompts in pieces, right and wrong guesses, and blocks of few tokens."""
    model = request.getfixturevalue(precision)
    engine = Engine(model, None, replace(SMALL, prefix_caching=False, block_size=16, speculation="mtp"))
    spy = engine.core.drafter = Spy(engine.core.drafter)
    engine.generate(PROMPTS, SamplingParams(max_tokens=24, temperature=0, ignore_eos=True))
    assert len(spy.seen) > 40
    assert {len(guesses) for _, guesses in spy.seen} >= {1, 2, 3}
    right = sum(guesses == reference_guesses(model, tokens, len(guesses)) for tokens, guesses in spy.seen)
    assert right >= len(spy.seen) * (1 if precision == "exact" else 0.97)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guesses_made_in_one_native_call_are_those_made_pass_by_pass(model, monkeypatch, temperature):
    config = replace(SMALL, speculation="mtp", adaptive_speculation=False)
    params = [
        SamplingParams(max_tokens=20, temperature=temperature, top_p=0.9, seed=i, ignore_eos=True) for i in range(5)
    ]
    seen = []
    for native in (True, False):
        engine = Engine(model, None, config)
        if native and not engine.core.drafter._pass.draws:
            pytest.skip("no compiler: there is one way only")
        monkeypatch.setattr(MTPPass, "draws", native)
        spy = engine.core.drafter = Spy(engine.core.drafter)
        engine.generate(PROMPTS, params)
        seen.append(spy.seen)
    assert seen[0] == seen[1]
    assert sum(len(guesses) for _, guesses in seen[0]) > 100


@pytest.mark.parametrize("vocabulary", [40, 10**9])
def test_a_module_may_know_a_part_of_the_vocabulary(model, tokenizer, monkeypatch, vocabulary):
    many = mixed(tokenizer)
    config = replace(SMALL, speculation="mtp", draft_vocabulary=vocabulary)
    # What a structure or the end of a thinking block dictates may be any token.
    free = [params for params in many if params.structured is None and params.thinking is None]
    plain, _ = completions(model, tokenizer, many)
    for native in (True, False):
        engine = Engine(model, tokenizer, config)
        if not engine.core.drafter._pass.draws:
            pytest.skip("no compiler: all tokens are guessed")
        monkeypatch.setattr(MTPPass, "draws", native)
        spy = engine.core.drafter = Spy(engine.core.drafter)
        engine.generate([PROMPTS[i % len(PROMPTS)] for i in range(len(free))], free)
        guessed = [guess for _, guesses in spy.seen for guess in guesses]
        assert len(guessed) > 10
        assert max(guessed) < vocabulary
        assert vocabulary < 10**9 or max(guessed) > 40
        found, _ = completions(model, tokenizer, many, config)
        assert [c.tokens for c in found] == [c.tokens for c in plain]


def test_with_guesses_that_need_not_pay_every_step_has_as_many_as_there_may_be(model):
    config = EngineConfig(speculation="mtp", num_speculative_tokens=2, adaptive_speculation=False)
    engine = Engine(model, None, config)
    engine.generate([[1, 2, 3]], SamplingParams(max_tokens=40, temperature=1.0, seed=1, ignore_eos=True))
    metrics = engine.metrics()
    assert metrics.drafted[0] >= metrics.steps - 3
    assert metrics.drafted[1] >= metrics.steps - 4


def test_every_guess_that_comes_true_saves_a_step(exact):
    engine = Engine(exact, None, EngineConfig(speculation="mtp", num_speculative_tokens=3))
    # The bias makes main model and module agree on one token.
    params = SamplingParams(max_tokens=21, temperature=0, ignore_eos=True, logit_bias={17: 100.0})
    engine.generate([[1, 2]], params)
    metrics = engine.metrics()
    assert metrics.generated_tokens == 21 == metrics.steps + sum(metrics.accepted)
    assert metrics.accepted == metrics.drafted
    assert metrics.steps == 6


def test_quotations_are_found_and_save_steps(exact):
    config = EngineConfig(speculation="lookup", num_speculative_tokens=6)
    engine = Engine(exact, None, config)
    params = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True, logit_bias={8: 100.0})
    (completion,) = engine.generate([[8, 8, 8, 8, 8, 8]], params)
    assert completion.tokens == (8,) * 40
    assert engine.metrics().steps < 12
    assert engine.metrics().accepted[0] > 5


def test_what_is_drawn_follows_the_models_distribution(tokenizer):
    """Two tokens a text, so that the second was guessed: their joint distribution is the model's."""
    config = small_config(vocab_size=9, num_hidden_layers=2)
    model = small_model(config)
    count = 3000
    params = SamplingParams(max_tokens=3, temperature=1.0, ignore_eos=True)
    engine = Engine(model, None, EngineConfig(speculation="mtp", num_speculative_tokens=2))
    made = engine.generate([[1, 2, 3]] * count, [replace(params, seed=seed) for seed in range(count)])
    assert sum(engine.metrics().accepted) > count / 10
    with torch.no_grad():
        first = model(torch.tensor([[1, 2, 3]])).logits[0, -1].double().softmax(-1)
        pairs = torch.tensor([[1, 2, 3, token] for token in range(9)])
        second = model(pairs).logits[:, -1].double().softmax(-1)
        triples = torch.tensor([[1, 2, 3, a, b] for a in range(9) for b in range(9)])
        third = model(triples).logits[:, -1].double().softmax(-1).view(9, 9, 9)
    joint = (first[:, None, None] * second[:, :, None] * third).flatten() * count
    drawn = torch.tensor([c.tokens for c in made])
    seen = torch.bincount(drawn @ torch.tensor([81, 9, 1]), minlength=729).double()
    common = joint >= 5
    observed = torch.cat((seen[common], seen[~common].sum()[None]))
    wanted = torch.cat((joint[common], joint[~common].sum()[None]))
    freedom = len(wanted) - 1
    assert ((observed - wanted) ** 2 / wanted).sum() < freedom + 4 * (2 * freedom) ** 0.5


def test_a_module_that_is_damaged_disturbs_nobody(exact, tokenizer):
    damaged = Transformer(exact.config).double()
    damaged.load_state_dict(exact.state_dict())
    damaged.compute_dtype = torch.float64
    with torch.no_grad():
        damaged.model.layers[-1].eh_proj.weight.fill_(float("nan"))
    many = mixed(tokenizer)
    plain, _ = completions(exact, tokenizer, many)
    guessed, engine = completions(damaged.eval(), tokenizer, many, replace(SMALL, speculation="mtp"))
    assert_same(plain, guessed)
    assert sum(engine.metrics().accepted) <= sum(engine.metrics().drafted)


def test_weights_that_have_changed_are_used(model):
    changed = Transformer(model.config)
    changed.load_state_dict(model.state_dict())
    engine = Engine(changed.eval(), None, EngineConfig(speculation="mtp", num_speculative_tokens=2))
    params = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
    engine.generate([[1, 2, 3]], params)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    spy = engine.core.drafter = Spy(engine.core.drafter)
    (after,) = engine.generate([[1, 2, 3]], params)
    (fresh,) = Engine(changed, None, EngineConfig()).generate([[1, 2, 3]], params)
    assert after.tokens == fresh.tokens
    tokens, guesses = spy.seen[-1]
    assert guesses == reference_guesses(changed, tokens, len(guesses))


def test_which_way_of_guessing_suits_the_model(model):
    dense = small_model(small_config(LLAMA))
    with pytest.raises(GenerationError, match='speculation is "mtp" and the model has no MTP module'):
        Engine(dense, None, EngineConfig(speculation="mtp"))
    with pytest.raises(GenerationError, match="speculation is 'much'"):
        EngineConfig(speculation="much")
    with pytest.raises(GenerationError, match="draft_vocabulary is 0"):
        EngineConfig(draft_vocabulary=0)
    assert isinstance(Engine(dense, None, EngineConfig(speculation="auto")).core.drafter, LookupDrafter)
    assert isinstance(Engine(model, None, EngineConfig(speculation="auto")).core.drafter, MTPDrafter)
    assert Engine(model).core.drafter is None


def test_a_model_of_another_kind_looks_up_its_guesses():
    dense = small_model(small_config(LLAMA), dtype=torch.float64)
    params = SamplingParams(max_tokens=30, temperature=0, ignore_eos=True)
    engine = Engine(dense, None, EngineConfig(speculation="auto"))
    guessed = engine.generate([[1, 2, 3, 1, 2, 3]], params)[0]
    assert guessed.tokens == Engine(dense).generate([[1, 2, 3, 1, 2, 3]], params)[0].tokens
    assert guessed.finish_reason is FinishReason.LENGTH
    assert engine.metrics().steps < 30


def test_what_a_structure_or_the_end_of_thinking_dictates_is_not_read_token_by_token(exact, tokenizer):
    start, end = (tokenizer.reserved_id(name) for name in ("<think>", "</think>"))
    closing = tuple(tokenizer.encode("the line is long enough"))
    limit = ThinkingLimit(start=start, end=end, max_tokens=2, closing=closing, opened=True)
    schema = {"const": {"depth of the sea": "deep deep deep"}}
    params = SamplingParams(max_tokens=60, seed=1, thinking=limit, structured=StructuredOutput(json_schema=schema))
    config = EngineConfig(speculation="lookup", num_speculative_tokens=8)
    plain, slow = completions(exact, tokenizer, [params], EngineConfig(), [[5]])
    guessed, fast = completions(exact, tokenizer, [params], config, [[5]])
    assert_same(plain, guessed)
    assert guessed[0].tokens[2 : 2 + len(closing)] == closing
    # A model without a clue spells what is dictated in tokens that nobody would guess.
    assert fast.metrics().steps < 0.7 * slow.metrics().steps
