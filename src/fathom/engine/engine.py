"""The public face of generation: prompts in, completions out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fathom.engine.generate import steps, stop_tokens
from fathom.engine.prompt import encode_text
from fathom.engine.sampling import SamplingParams
from fathom.engine.stop import StopScanner
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.model.transformer import Transformer


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """A stop token or a stop string."""
    LENGTH = "length"
    """`max_tokens` or the end of the model's context."""


@dataclass(frozen=True)
class Completion:
    """What followed a prompt."""

    tokens: tuple[int, ...]
    """Every generated token, a stop token included."""
    logprobs: tuple[float, ...]
    """Of each token, in the distribution it was drawn from."""
    text: str
    """The tokens as text, without stop token and stop string; empty where the engine has no tokenizer."""
    finish_reason: FinishReason


class Engine:
    """Continues prompts with a model; with its tokenizer, prompts and completions may be text."""

    def __init__(self, model: "Transformer", tokenizer: "Tokenizer | None" = None) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def generate(
        self, prompts: Sequence[str | Sequence[int]], params: SamplingParams | None = None
    ) -> list[Completion]:
        """Complete each prompt, text or token ids, on its own and in order."""
        return [self.stream(prompt, params).run() for prompt in prompts]

    def stream(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> "Stream":
        """Complete one prompt piece by piece."""
        return Stream(self, self._ids(prompt), params or SamplingParams())

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        if not isinstance(prompt, str):
            return list(prompt)
        if self.tokenizer is None:
            raise GenerationError("The prompt is text and the engine has no tokenizer: give token ids, or a tokenizer.")
        return encode_text(self.tokenizer, prompt)


class Stream:
    """A completion in the making: iterate for its text as it becomes certain, then read `completion`."""

    def __init__(self, engine: Engine, prompt_ids: list[int], params: SamplingParams) -> None:
        if params.stop and engine.tokenizer is None:
            raise GenerationError("Stop strings need a tokenizer: give the engine one, or use stop_token_ids.")
        self._steps = steps(engine.model, prompt_ids, params)
        self._stop_tokens = stop_tokens(engine.model, params)
        self._vocabulary = engine.tokenizer.vocab_size if engine.tokenizer else 0
        self._decoder = engine.tokenizer.stream_decoder() if engine.tokenizer else None
        self._scanner = StopScanner(params.stop)
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._pieces: list[str] = []
        self._finish = FinishReason.LENGTH

    def __iter__(self) -> Iterator[str]:
        for token, logprob in self._steps:
            self._tokens.append(token)
            self._logprobs.append(logprob)
            if token in self._stop_tokens:
                self._finish = FinishReason.STOP
                break
            if self._decoder and (piece := self._show(self._text(token))):
                yield piece
            if self._scanner.stopped:
                self._finish = FinishReason.STOP
                return
        if self._decoder and (rest := self._show(self._decoder.finish(), last=True)):
            yield rest
        if self._scanner.stopped:
            self._finish = FinishReason.STOP

    def _text(self, token: int) -> str:
        # A model's vocabulary may be padded beyond its tokenizer's; such a token has no text.
        return self._decoder.push(token) if self._decoder and token < self._vocabulary else ""

    def _show(self, text: str, *, last: bool = False) -> str:
        piece = self._scanner.feed(text)
        if last:
            piece += self._scanner.flush()
        self._pieces.append(piece)
        return piece

    def run(self) -> Completion:
        """Generate to the end."""
        for _ in self:
            pass
        return self.completion

    @property
    def completion(self) -> Completion:
        """What has been generated so far."""
        return Completion(tuple(self._tokens), tuple(self._logprobs), "".join(self._pieces), self._finish)
