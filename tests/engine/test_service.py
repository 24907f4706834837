"""Many ask at once, some leave, some are slow, and the engine goes on."""

import asyncio
import gc
import time
from contextlib import aclosing

import pytest

from fathom.engine import service
from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.request import FinishReason
from fathom.engine.sampling import SamplingParams
from fathom.engine.service import AsyncEngine
from fathom.errors import GenerationError, UnavailableError

PARAMS = SamplingParams(max_tokens=20, seed=5, ignore_eos=True)
PROMPTS = [[5, 100, 7, 300, 42], [9] * 11, [1, 2], [77, 3, 8]]


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, EngineConfig(block_size=4))


def run(engine, work):
    """Run `work(service)` in an event loop, then let the service drain."""

    async def main():
        service = AsyncEngine(engine)
        try:
            return await work(service)
        finally:
            await service.drain()

    return asyncio.run(asyncio.wait_for(main(), 60))


def all_given_back(engine):
    blocks = engine.core.blocks
    return blocks.available == blocks.count and not engine.core.busy


def test_streams_side_by_side_say_what_each_says_alone(engine, model, tokenizer):
    async def listen(service, prompt):
        return [delta async for delta in service.stream(prompt, PARAMS)]

    async def work(service):
        return await asyncio.gather(*(listen(service, prompt) for prompt in PROMPTS))

    for prompt, deltas in zip(PROMPTS, run(engine, work), strict=True):
        alone = Engine(model, tokenizer).generate([prompt], PARAMS)[0]
        assert tuple(token for delta in deltas for token in delta.tokens) == alone.tokens
        assert "".join(delta.text for delta in deltas) == alone.text
        assert [delta.finish_reason for delta in deltas][-1] is FinishReason.LENGTH
        assert all(delta.finish_reason is None for delta in deltas[:-1])
        assert deltas[0].prompt_tokens == len(prompt)


def test_a_whole_completion_in_one_go(engine, model, tokenizer):
    async def work(service):
        return await service.complete(PROMPTS[0], SamplingParams(max_tokens=8, n=3, seed=1, logprobs=2))

    completions = run(engine, work)
    direct = Engine(model, tokenizer).generate([PROMPTS[0]], SamplingParams(max_tokens=8, n=3, seed=1, logprobs=2))
    assert [(c.tokens, c.text, c.index) for c in completions] == [(c.tokens, c.text, c.index) for c in direct]
    assert [len(c.top_logprobs[0]) for c in completions] == [2, 2, 2]


def test_best_of_hands_out_the_likeliest_and_nothing_else(engine):
    params = SamplingParams(max_tokens=6, n=2, best_of=5, seed=3, ignore_eos=True)

    async def work(service):
        return [delta async for delta in service.stream(PROMPTS[0], params)]

    deltas = run(engine, work)
    assert [delta.index for delta in deltas] == [0, 1]
    every = engine_completions(engine, 5)
    best = sorted((sum(c.logprobs) for c in every), reverse=True)[:2]
    assert [sum(delta.logprobs) for delta in deltas] == pytest.approx(best)


def engine_completions(engine, n):
    return Engine(engine.model).generate([PROMPTS[0]], SamplingParams(max_tokens=6, n=n, seed=3, ignore_eos=True))


@pytest.mark.parametrize("how", ["break", "close", "cancel"])
def test_leaving_gives_the_request_up(engine, how):
    long = SamplingParams(max_tokens=44, ignore_eos=True)

    async def listen(service):
        async for _ in service.stream([1, 2, 3], long):
            await asyncio.sleep(10)

    async def work(service):
        if how == "cancel":
            task = asyncio.create_task(listen(service))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif how == "close":
            async with aclosing(service.stream([1, 2, 3], long)) as stream:
                await anext(stream)
        else:
            async for _ in service.stream([1, 2, 3], long):
                break
            gc.collect()
        other = await service.complete([4, 5], PARAMS)
        return other[0].finish_reason

    assert run(engine, work) is FinishReason.LENGTH
    assert all_given_back(engine)


def test_who_leaves_before_being_served_is_never_served(engine):
    async def work(service):
        stream = service.stream([1, 2, 3], PARAMS)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await service.complete([4, 5], PARAMS)

    run(engine, work)
    assert all_given_back(engine)


def test_a_refusal_reaches_the_one_who_asked_and_nobody_else(engine):
    async def work(service):
        bad, good = await asyncio.gather(
            service.complete([600], PARAMS), service.complete([6], PARAMS), return_exceptions=True
        )
        return bad, good[0]

    bad, good = run(engine, work)
    assert isinstance(bad, GenerationError)
    assert "outside the model's vocabulary" in str(bad)
    assert len(good.tokens) == 20


def test_a_slow_reader_finds_everything_put_together(engine):
    async def work(service):
        deltas = []
        async for delta in service.stream(PROMPTS[0], PARAMS):
            deltas.append(delta)
            if len(deltas) == 1:
                await asyncio.sleep(0.5)
        return deltas

    deltas = run(engine, work)
    assert len(deltas) < 20
    assert sum(len(delta.tokens) for delta in deltas) == sum(len(delta.logprobs) for delta in deltas) == 20


def test_beginnings_and_ends_come_at_once_and_the_rest_in_parcels(engine, monkeypatch):
    monkeypatch.setattr(service, "PACE", 1000)

    async def listen(asked):
        return [len(delta.tokens) async for delta in asked.stream(PROMPTS[0], PARAMS)]

    parcels = run(engine, listen)
    assert sum(parcels) == 20
    assert len(parcels) <= 2


def test_a_deadline_ends_a_request_with_what_there_is(engine):
    async def work(service):
        late = await service.complete([1, 2, 3], PARAMS, deadline=time.monotonic() - 1)
        good = await service.complete([1, 2, 3], PARAMS, deadline=time.monotonic() + 60)
        return late[0], good[0]

    late, good = run(engine, work)
    assert (late.finish_reason, late.tokens) == (FinishReason.DEADLINE, ())
    assert good.finish_reason is FinishReason.LENGTH


def test_draining_finishes_what_is_under_way_and_takes_nothing_new(engine):
    async def work(service):
        under_way = asyncio.create_task(service.complete([1, 2, 3], PARAMS))
        await asyncio.sleep(0.01)
        await service.drain()
        with pytest.raises(UnavailableError, match="shutting down"):
            await service.complete([1, 2, 3], PARAMS)
        return await under_way

    assert run(engine, work)[0].finish_reason is FinishReason.LENGTH


def test_a_service_that_was_never_asked_drains_too(engine):
    async def work(service):
        await service.drain()
        with pytest.raises(UnavailableError):
            await service.complete([1], PARAMS)

    run(engine, work)


def test_closing_gives_up_what_is_under_way(engine):
    async def work(service):
        under_way = asyncio.create_task(service.complete([1, 2], SamplingParams(max_tokens=47, ignore_eos=True)))
        await asyncio.sleep(0)
        await asyncio.to_thread(service.close)
        return await under_way

    assert run(engine, work)[0].finish_reason in (FinishReason.CANCELLED, FinishReason.LENGTH)
    assert all_given_back(engine)


def test_a_step_that_fails_outright_ends_those_under_way_with_an_error_and_the_service_goes_on(engine, monkeypatch):
    plan = engine.core.scheduler.plan

    def broken():
        monkeypatch.setattr(engine.core.scheduler, "plan", plan)
        raise RuntimeError("no such luck")

    async def work(service):
        monkeypatch.setattr(engine.core.scheduler, "plan", broken)
        failed = await service.complete([1, 2], PARAMS)
        return failed[0], (await service.complete([1, 2], PARAMS))[0]

    failed, good = run(engine, work)
    assert (failed.finish_reason, failed.error) == (FinishReason.ERROR, "RuntimeError: no such luck")
    assert good.finish_reason is FinishReason.LENGTH
    assert all_given_back(engine)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_leaves_nobody_waiting(engine, monkeypatch):
    def dead(*_):
        raise SystemExit

    async def work(service):
        monkeypatch.setattr(engine, "step", dead)
        lost = await service.complete([1, 2], PARAMS)
        with pytest.raises(UnavailableError):
            await service.complete([1, 2], PARAMS)
        return lost[0]

    assert run(engine, work).error == "The engine stopped unexpectedly."


def test_metrics_count_what_was_done(engine):
    async def work(service):
        await service.complete([3] * 12, PARAMS)
        await service.complete([3] * 12, PARAMS)
        return service.metrics()

    metrics = run(engine, work)
    assert metrics["requests"] == 2
    assert metrics["prompt_tokens"] == 24
    assert metrics["cached_tokens"] == 8
    assert metrics["generated_tokens"] == 40
    assert metrics["running"] == metrics["waiting"] == metrics["blocks_in_use"] == 0
    assert metrics["tokens_per_second"] > 0


def test_many_come_and_go(engine):
    async def one(service, number):
        tokens = 0
        async with aclosing(service.stream([number % 7 + 1] * (number % 9 + 1), PARAMS, priority=number % 3)) as stream:
            async for delta in stream:
                tokens += len(delta.tokens)
                if number % 4 == 0 and tokens > 3:
                    return tokens
        return tokens

    async def work(service):
        return await asyncio.gather(*(one(service, number) for number in range(40)))

    counts = run(engine, work)
    assert all(count == 20 for number, count in enumerate(counts) if number % 4)
    assert all_given_back(engine)
