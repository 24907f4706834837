"""The server beside its own engine: first token, decoding, and 200 streams at once.

    python benchmarks/serving.py --models smollm2-135m-instruct runs/quickstart

`fathom serve` runs as a process of its own and is asked over loopback for streamed chat completions; the engine's own
figures come from `Engine.step` in this process, with the same model, prompts (by token), parameters and threads. Both
take turns, round by round; while one is timed the other waits.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from common import machine, show, spread, write
from server_process import Heard, Server

from fathom.launch import prepare_process

WORDS = [
    "the",
    "line",
    "sinks",
    "into",
    "deep",
    "water",
    "where",
    "no",
    "light",
    "of",
    "day",
    "has",
    "ever",
    "come",
    "home",
]


def parse() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["smollm2-135m-instruct", "runs/quickstart"])
    parser.add_argument("--prompts", nargs="+", type=int, default=[128, 512], help="words of a prompt")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of an answer")
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 16], help="answers at once")
    parser.add_argument("--streams", type=int, default=200, help="streams in the crowd; 0 leaves it out")
    parser.add_argument("--crowd-tokens", type=int, default=256, help="tokens of an answer in the crowd")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--weights", help="fp32, bf16, int8 or int4; as they are stored if not given")
    parser.add_argument("--name", default="serving", help="of the file in benchmarks/results")
    return parser.parse_args()


def prompts(count: int, words: int, chance: random.Random) -> list[str]:
    """Questions that have nothing in common."""
    return [" ".join(chance.choices(WORDS, k=words)) for _ in range(count)]


@dataclass
class Bench:
    """A model, its engine here and its server there."""

    name: str
    asked: argparse.Namespace
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        from fathom.cli.find import model_folder
        from fathom.corpus.tokenizer import Tokenizer
        from fathom.engine.config import EngineConfig
        from fathom.engine.engine import Engine
        from fathom.serve.encoding import template_of
        from fathom.serve.speaker import Speaker
        from fathom.weights.formats import load_in_format

        folder = model_folder(self.name)
        tokenizer, model = Tokenizer(folder), load_in_format(folder, self.asked.weights)
        self.engine = Engine(model, tokenizer, EngineConfig(max_batch_size=256, cache_bytes=1 << 30))
        # The engine is asked for the very tokens and parameters that the server would ask for.
        self.speaker = Speaker(
            None,  # type: ignore[arg-type]
            tokenizer,
            template_of(tokenizer),
            context_length=model.config.max_position_embeddings,
            vocab_size=model.config.vocab_size,
        )
        self.server = Server(folder, self.asked.threads, self.asked.weights)
        self.model = "deepseek-chat" if self.speaker.template.can_answer_at_once else folder.name

    def body(self, prompt: str, tokens: int) -> dict[str, Any]:
        """A chat completion that says exactly so many tokens."""
        ask = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "stream": True}
        return ask | {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}

    def own(self, count: int, tokens: int, words: int) -> tuple[float, float]:
        """Seconds to the first token and to the last of `count` answers, in the engine alone."""
        from fathom.serve.api.asking import ask_of
        from fathom.serve.api.chat_request import ChatRequest
        from fathom.serve.settings import Limits, ModelName

        asks = []
        for prompt in prompts(count, words, self.chance):
            request = ChatRequest.model_validate(self.body(prompt, tokens))
            ask = ask_of(request, ModelName(), self.speaker.template, Limits())
            asks.append((self.speaker.prompt(ask).tokens, self.speaker.params(ask)))
        begin, first, done = time.perf_counter(), 0.0, 0
        for ids, params in asks:
            self.engine.submit(ids, params)
        while done < count:
            for output in self.engine.step():
                # The server's first words are waited for, too: blank tokens before them are none.
                if output.delta.text.strip():
                    first = first or time.perf_counter() - begin
                done += output.delta.finish_reason is not None
        return first, time.perf_counter() - begin

    def served(self, count: int, tokens: int, words: int) -> list[Heard]:
        """`count` answers at once from the server."""
        from fathom.serve.api.wire import dumped

        bodies = [dumped(self.body(prompt, tokens)) for prompt in prompts(count, words, self.chance)]

        async def all_of_them() -> list[Heard]:
            begin = time.perf_counter()
            return list(await asyncio.gather(*(self.server.hear(body, begin) for body in bodies)))

        heard = asyncio.run(all_of_them())
        if not all(one.whole for one in heard):
            raise SystemExit(f"{sum(not one.whole for one in heard)} of {count} streams were broken off.")
        return heard

    def first_token(self, words: int) -> dict[str, Any]:
        """Milliseconds to the first token, one request at a time."""
        own, served = [], []
        for _ in range(3 * self.asked.rounds):
            own.append(1e3 * self.own(1, 8, words)[0])
            served.append(1e3 * self.served(1, 8, words)[0].first)
        ratio = statistics.median(served) / statistics.median(own)
        return {"own_ms": spread(own), "served_ms": spread(served), "ratio": ratio}

    def decoding(self, batch: int) -> dict[str, Any]:
        """Tokens a second of `batch` answers, and what the server adds to a token.

        What it adds to a request is in the first: of long answers and short ones, the difference is taken.
        """
        own, served, own_token, served_token = [], [], [], []
        tokens, words = self.asked.tokens, min(self.asked.prompts)
        short, more = tokens // 8, batch * (tokens - tokens // 8)
        for _ in range(self.asked.rounds):
            seconds = self.own(batch, tokens, words)[1]
            own.append(batch * tokens / seconds)
            own_token.append(1e6 * (seconds - self.own(batch, short, words)[1]) / more)
            seconds = self.took(batch, tokens, words)
            served.append(batch * tokens / seconds)
            served_token.append(1e6 * (seconds - self.took(batch, short, words)) / more)
        return {
            "own": spread(own),
            "served": spread(served),
            "own_token_us": spread(own_token),
            "served_token_us": spread(served_token),
            "overhead": statistics.median(served_token) / statistics.median(own_token) - 1,
        }

    def took(self, count: int, tokens: int, words: int) -> float:
        """Seconds until the last of `count` answers from the server has ended."""
        return max(one.end for one in self.served(count, tokens, words))

    def crowd(self) -> dict[str, Any]:
        """Many streams at once: speed, memory, and how evenly they go on."""
        streams, tokens, words = self.asked.streams, self.asked.crowd_tokens, min(self.asked.prompts)
        own = streams * tokens / self.own(streams, tokens, words)[1]
        before = self.server.memory()
        memory = [before]

        def watch() -> None:
            while not done.wait(0.1):
                memory.append(self.server.memory())

        done = threading.Event()
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            heard = self.served(streams, tokens, words)
        finally:
            done.set()
            watching.join()
        ends = [one.end for one in heard]
        return {
            "streams": streams,
            "whole": sum(one.whole for one in heard),
            "own": own,
            "served": streams * tokens / max(ends),
            "first_s": spread([one.first for one in heard]),
            "end_s": spread(ends),
            "evenness": statistics.median(ends) / max(ends),
            "memory_mb": [before, max(memory), self.server.memory()],
        }


@contextmanager
def bench(name: str, asked: argparse.Namespace) -> Iterator[Bench]:
    """A model ready to be asked; both sides are warm."""
    made = Bench(name, asked)
    try:
        for _ in range(2):
            made.own(2, 8, 8)
            made.served(2, 8, 8)
        yield made
    finally:
        made.server.close()


def main() -> None:
    """Measure, print the table and write the JSON."""
    asked = parse()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    # The engine here has the same threads, memory and waiting as the server's, whose command line does this.
    prepare_process()
    facts: dict[str, Any] = {"machine": machine(asked.threads), "asked": vars(asked), "models": {}}
    rows = []
    for name in asked.models:
        with bench(name, asked) as made:
            found: dict[str, Any] = {"first_token": {words: told(made.first_token(words)) for words in asked.prompts}}
            found["decoding"] = {batch: told(made.decoding(batch)) for batch in asked.batches}
            if asked.streams:
                found["crowd"] = told(made.crowd())
        facts["models"][name] = found
        rows += _rows(name, found)
    show("The server beside its engine", ["model", "what", "engine", "over HTTP", "ratio"], rows)
    print(f"\nwritten to {write(asked.name, facts)}")


def told(found: dict[str, Any]) -> dict[str, Any]:
    """Say what was found while the rest is still being measured."""
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def _rows(name: str, found: dict[str, Any]) -> list[list[str]]:
    rows = []
    for words, first in found["first_token"].items():
        times = [f"{first[kind]['median']:.1f} ms" for kind in ("own_ms", "served_ms")]
        rows.append([name, f"first words, prompt of {words}", *times, f"{first['ratio']:.2f}"])
    for batch, one in found["decoding"].items():
        speeds = [f"{one[kind]['median']:,.0f} tokens/s" for kind in ("own", "served")]
        rows.append([name, f"{batch} at once", *speeds, f"{one['own']['median'] / one['served']['median']:.2f}"])
        tokens = [f"{one[kind]['median']:.0f} µs" for kind in ("own_token_us", "served_token_us")]
        rows.append([name, "    a token more", *tokens, f"{1 + one['overhead']:.2f}"])
    if crowd := found.get("crowd"):
        rows.append(
            [
                name,
                f"{crowd['streams']} at once, {crowd['whole']} whole",
                f"{crowd['own']:,.0f} tokens/s",
                f"{crowd['served']:,.0f} tokens/s",
                f"{crowd['own'] / crowd['served']:.2f}",
            ]
        )
        rows.append([name, "    tokens/s by stream, slowest / median", "", f"{crowd['evenness']:.2f}", ""])
        memory = " / ".join(f"{mb:,.0f}" for mb in crowd["memory_mb"])
        firsts = crowd["first_s"]
        rows.append([name, "    first words", "", f"{firsts['min']:.2f} to {firsts['max']:.2f} s", ""])
        rows.append([name, "    memory before / at most / after", "", memory + " MB", ""])
    return rows


if __name__ == "__main__":
    main()
