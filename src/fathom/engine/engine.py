"""The public face of generation: prompts in, completions out. One thread, one step at a time."""

import time
from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from fathom.engine.accept import News
from fathom.engine.admission import check_prompt, end_tokens, room, stop_tokens
from fathom.engine.config import EngineConfig
from fathom.engine.core import Core
from fathom.engine.memory import cache_blocks
from fathom.engine.metrics import Metrics
from fathom.engine.prompt import encode_text
from fathom.engine.request import Completion, Delta, FinishReason, Output, Request, Sequence
from fathom.engine.sampling import SamplingParams
from fathom.engine.speculation import make_drafter
from fathom.engine.states import States
from fathom.engine.stream import Stream
from fathom.engine.text import TextState
from fathom.errors import CompletionError, GenerationError

if TYPE_CHECKING:
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.model.transformer import Transformer

__all__ = ["Completion", "Delta", "Engine", "EngineConfig", "FinishReason", "Output", "Request", "Stream"]


class Engine:
    """Continues prompts with a model, many at once; with its tokenizer, prompts and completions may be text."""

    def __init__(
        self, model: "Transformer", tokenizer: "Tokenizer | None" = None, config: EngineConfig | None = None
    ) -> None:
        """`GenerationError` where `config` asks for more memory than there is."""
        self.model = model
        self.tokenizer = tokenizer
        self.config = config or EngineConfig()
        self._states = States(model.config.vocab_size, end_tokens(model.config), tokenizer)
        self._drafter = make_drafter(
            self.config.speculation,
            model,
            self.config.num_speculative_tokens,
            adaptive=self.config.adaptive_speculation,
            vocabulary=self.config.draft_vocabulary,
        )
        self._blocks = cache_blocks(self.config, model, self._drafter.layers if self._drafter else 0)
        self._outputs: list[Output] = []
        self._alive: dict[int, Request] = {}
        self._next_id = 0

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def core(self) -> Core:
        """Cache, scheduler and model together; made when the first request comes."""
        return Core(self.model, self.config, self._blocks, self._drafter)

    def generate(
        self,
        prompts: Many[str | Many[int]],
        params: SamplingParams | Many[SamplingParams] | None = None,
    ) -> list[Completion]:
        """Complete every prompt, text or token ids, and return the completions in order: `n` for each prompt.

        One `params` for all, or one for each. Raises `GenerationError` when a prompt is refused, before any work, and
        when one could not be gone on with, after the others are done; those are its `completions`.
        """
        each = [params] * len(prompts) if params is None or isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise GenerationError(f"{len(prompts)} prompts and {len(each)} params: give one params for each, or one.")
        requests: list[Request] = []
        try:
            for prompt, own in zip(prompts, each, strict=True):
                requests.append(self.submit(prompt, own))
            ids = {request.id for request in requests}
            while not ids.isdisjoint(self._alive):
                self._outputs = [output for output in self.step() if output.request.id not in ids]
        finally:
            for request in requests:
                self.cancel(request)
                self.take(request)
        completions = [completion for request in requests for completion in request.completions]
        failed = next((c for c in completions if c.finish_reason is FinishReason.ERROR), None)
        if failed is not None:
            raise CompletionError(failed.error, completions)
        return completions

    def stream(self, prompt: str | Many[int], params: SamplingParams | None = None) -> "Stream":
        """Complete one prompt piece by piece."""
        if params is not None and (params.n > 1 or (params.best_of or 1) > 1):
            raise GenerationError("A stream follows one completion: leave n and best_of at 1, or use `generate`.")
        return Stream(self, self.submit(prompt, params))

    def submit(
        self,
        prompt: str | Many[int],
        params: SamplingParams | None = None,
        *,
        priority: int = 0,
        deadline: float | None = None,
    ) -> Request:
        """Hand in a prompt; what cannot be served is refused here, with `GenerationError`.

        Higher `priority` is served first; `deadline` is a moment of `time.monotonic` after which it is given up.
        """
        params = params or SamplingParams()
        ids = tuple(self._ids(prompt))
        config = self.model.config
        check_prompt(config, ids)
        self._states.check(params)
        if params.stop and self.tokenizer is None:
            raise GenerationError("Stop strings need a tokenizer: give the engine one, or use stop_token_ids.")
        if not isinstance(priority, int) or not -1000 <= priority <= 1000:
            raise GenerationError(f"priority is {priority!r}: it must be a whole number from -1000 to 1000.")
        limit, stops = room(config, len(ids), params), stop_tokens(config, params)
        self.core.check_fits(len(ids), limit)
        if not self._alive:
            self.core.check_weights()
        request = Request(self._next_id, ids, params, priority, deadline)
        self._next_id += 1
        for index in range(max(params.n, params.best_of or 1)):
            sequence = Sequence(request, ids, self.core.scheduler.rank(priority), index=index, limit=limit)
            sequence.stops = stops
            sequence.state = self._states.start(params, ids, stop_tokens=tuple(stops), room=limit, index=index)
            sequence.text = TextState(self.tokenizer, params.stop) if self.tokenizer else None
            request.sequences.append(sequence)
        self._alive[request.id] = request
        self.core.begin(request)
        return request

    def cancel(self, request: Request) -> None:
        """Give a request up, now; its last output comes with the next step."""
        self._give_up(request, FinishReason.CANCELLED)

    def step(self) -> list[Output]:
        """Let every running sequence go on by a token or more, and return what is new."""
        self._expire()
        if self.core.busy:
            self._report(self.core.step())
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def busy(self) -> bool:
        """Whether a step would do or return something."""
        return bool(self._alive or self._outputs)

    def take(self, request: Request) -> list[Output]:
        """What came for a request in steps taken for the sake of others, and has not been returned yet."""
        taken = [output for output in self._outputs if output.request is request]
        if taken:
            self._outputs = [output for output in self._outputs if output.request is not request]
        return taken

    def advance(self) -> None:
        """Take a step, and keep what comes of it for `take` or the next `step`."""
        self._outputs = self.step()

    def metrics(self) -> Metrics:
        """What the engine has done and is doing."""
        return self.core.metrics()

    def forget(self) -> None:
        """Find nothing again of what has been read so far, as after a change of the weights.

        An idle engine notices by itself when weights are changed by PyTorch's operations, as an optimiser does; call
        this when they change while requests are under way, or by other means (`.data`, NumPy).
        """
        self.core.forget()

    def cancel_all(self) -> None:
        """Give up every request."""
        for request in list(self._alive.values()):
            self.cancel(request)

    def fail_all(self, error: str) -> list[Output]:
        """End every request with an error, and return what is to be said of it."""
        for request in list(self._alive.values()):
            self._give_up(request, FinishReason.ERROR, error)
        outputs, self._outputs = self._outputs, []
        return outputs

    def close(self) -> None:
        """Give up what is unfinished, and write to the spill folder what is still to be written."""
        self.cancel_all()
        if "core" in self.__dict__:
            self.core.close()

    def _ids(self, prompt: str | Many[int]) -> Many[int]:
        if not isinstance(prompt, str):
            return prompt
        if self.tokenizer is None:
            raise GenerationError("The prompt is text and the engine has no tokenizer: give token ids, or a tokenizer.")
        return encode_text(self.tokenizer, prompt)

    def _expire(self) -> None:
        timed = [request for request in self._alive.values() if request.deadline is not None]
        if timed:
            now = time.monotonic()
            for request in timed:
                if request.deadline is not None and request.deadline <= now:
                    self._give_up(request, FinishReason.DEADLINE)

    def _give_up(self, request: Request, reason: FinishReason, error: str = "") -> None:
        for sequence in request.sequences:
            if sequence.finish is None:
                self._report(self.core.end(sequence, reason, error))

    def _report(self, news: Iterable[tuple[Sequence, News]]) -> None:
        """Turn what came to sequences into outputs, and let go of requests that are finished."""
        for sequence, new in news:
            request = sequence.request
            if not request.picks:
                self._outputs.append(Output(request, _delta(sequence, new)))
            if request.finished and self._alive.pop(request.id, None) is not None and request.picks:
                for index, best in enumerate(request.best()):
                    delta = _delta(best, News(tuple(best.results), best.text.shown if best.text else ""))
                    self._outputs.append(Output(request, replace(delta, index=index)))


def _delta(sequence: Sequence, news: News) -> Delta:
    params, results = sequence.request.params, news.results
    return Delta(
        tuple(result.token for result in results),
        news.text,
        tuple(result.logprob for result in results),
        None if params.logprobs is None else tuple(result.top_logprobs or () for result in results),
        sequence.finish,
        sequence.request.cached_tokens,
        sequence.prompt_length,
        sequence.index,
        sequence.error,
    )
