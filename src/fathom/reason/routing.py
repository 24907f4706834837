"""Routing replay: training takes the experts that the engine took when it wrote (DeepSeek-V3.2, section 3.1).

Where the weights or the arithmetic of writing and training differ, a router may choose other experts for the same
token, and the ratio of the two policies then compares two different networks. With the written choices forced, it does
not.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fathom.engine.chunks import Chunk
from fathom.engine.runner import Reading, Runner
from fathom.model.outputs import Choice
from fathom.model.router import Router
from fathom.model.transformer import Transformer, moe_layers

if TYPE_CHECKING:
    from fathom.engine.engine import Engine
    from fathom.engine.request import Sequence as Text
    from fathom.model.paged import PagedStores

Tokens = tuple[int, ...]


class RoutingRecorder(Runner):
    """Reads by the network itself, never by a native plan, and remembers which experts every token took."""

    def __init__(self, model: Transformer, memory: "PagedStores", *, with_hidden: bool = False) -> None:
        super().__init__(model, memory, with_hidden=with_hidden)
        self._routes: dict[Text, dict[int, Tensor]] = {}

    def _make_plan(self) -> None:
        return None

    def _make_graphs(self) -> None:
        # A recorded step runs no Python, so nobody would hear of its choices.
        return None

    def read(self, chunks: Sequence[Chunk]) -> Reading:
        """Read as the engine does, and keep each token's choices (L, K) by its place in its text."""
        routers = _routers(self.model)
        layers: list[Tensor] = []

        def keep(_: Router, __: object, choice: Choice) -> None:
            layers.append(choice.ids.to(torch.int16).cpu())

        handles = [router.register_forward_hook(keep) for router in routers]
        try:
            reading = super().read(chunks)
        finally:
            for handle in handles:
                handle.remove()
        rows = iter(torch.stack(layers, 1))
        for sequence, start, count, _ in reading.chunks:
            mine = self._routes.setdefault(sequence, {})
            mine.update((place, next(rows)) for place in range(start, start + count))
        return reading

    def taken(self) -> dict[Tokens, Tensor]:
        """By a text's tokens, prompt and reply: (tokens - 1, L, K) int16. Forgets them.

        Texts on one prompt share what the first of them read of it. The last token was never read.
        """
        read, self._routes = self._routes, {}
        prompts: dict[Tokens, dict[int, Tensor]] = {}
        for sequence, rows in read.items():
            prompts.setdefault(tuple(sequence.tokens[: sequence.prompt_length]), {}).update(
                (place, row) for place, row in rows.items() if place < sequence.prompt_length
            )
        found = {}
        for sequence, rows in read.items():
            whole = prompts[tuple(sequence.tokens[: sequence.prompt_length])] | rows
            tokens = tuple(sequence.tokens)
            found[tokens] = torch.stack([whole[place] for place in range(len(tokens) - 1)])
        return found


def record_routing(engine: "Engine") -> RoutingRecorder:
    """Let an idle engine record the choices of what it writes from now on; its prompts must not come from a cache."""
    assert not engine.config.prefix_caching
    recorder = RoutingRecorder(engine.model, engine.core.memory, with_hidden=engine.core.runner.with_hidden)
    engine.core.runner = recorder
    return recorder


@contextmanager
def replayed(model: Transformer, experts: Tensor | None) -> Iterator[None]:
    """Force the choices `experts` (N, S, L, K) on passes over tokens (N, S); None leaves the routers alone."""
    if experts is None:
        yield
        return
    routers = _routers(model)
    for router, ids in zip(routers, experts.to(torch.int64).flatten(0, 1).unbind(1), strict=True):
        router.forced = ids
    try:
        yield
    finally:
        for router in routers:
            router.forced = None


def _routers(model: Transformer) -> list[Router]:
    """Of the main model's expert layers, in their order."""
    inside = set(list(model.model.layers)[: model.config.num_hidden_layers])
    layers = {id(module) for layer in inside for module in layer.modules()}
    return [moe.gate for _, moe in moe_layers(model) if id(moe) in layers]
