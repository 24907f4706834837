"""How the next tokens are to be chosen: the fields that chat and text completions share."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from fathom.engine.sampling import SamplingParams
from fathom.serve.api.base import Body, Count, Penalty, Seed, Share, StopStrings, Temperature, Text


class StreamOptions(Body):
    """How to stream."""

    include_usage: bool = False
    """Send a last chunk without choices that has the usage."""


class SamplingRequest(Body):
    """The part of a body that chat and text completions share."""

    model: str
    """A name that `GET /models` lists."""
    max_tokens: Count | None = None
    """New tokens at most, thoughts included; the model's context may end the answer sooner."""
    temperature: Temperature | None = None
    """0 always takes the likeliest token."""
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Draw among the k likeliest tokens; 0 for all."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Leave out tokens less likely than this share of the likeliest one's probability."""
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    """Above 1 discourages tokens that were used before."""
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] | None
    ) = None
    """Added to the scores of single tokens, by id."""
    stop: StopStrings | None = None
    """Up to 16 strings that end the answer."""
    ignore_eos: bool | None = None
    """Go on past the end of the sentence, up to `max_tokens`; for measuring."""
    seed: Seed | None = None
    """The same seed gives the same answer."""
    n: Count | None = None
    """How many answers to each prompt."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Text | None = None
    """Noted in the audit log."""
    user_id: Text | None = None
    """Another name of `user`."""

    @model_validator(mode="after")
    def _streams(self) -> "SamplingRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        return self

    def sampling(self, max_tokens: int) -> SamplingParams:
        """What the engine is told; `max_tokens` where the body does not say."""
        return SamplingParams(
            max_tokens=self.max_tokens or max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
            stop=tuple(self.stop or ()),
            ignore_eos=bool(self.ignore_eos),
            seed=_seed(self.seed, 0),
        )


def params_of_choice(params: SamplingParams, choice: int) -> SamplingParams:
    """Each of several answers has its own random numbers."""
    return params if choice == 0 else replace(params, seed=_seed(params.seed, choice))


def _seed(seed: int | None, choice: int) -> int | None:
    return None if seed is None else (seed + choice) % 2**63
