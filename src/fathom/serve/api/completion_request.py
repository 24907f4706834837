"""The body of a text completion, in DeepSeek's and OpenAI's form."""

from typing import Annotated

from pydantic import Field, model_validator

from fathom.serve.api.base import Text, TokenId
from fathom.serve.api.sampling_request import SamplingRequest


class CompletionRequest(SamplingRequest):
    """A text to continue, or with `suffix` a text with a hole to fill."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
    )
    """A text, its token ids, or several of either."""
    suffix: Text | None = None
    """What follows the hole; the answer is what fills it."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Log-probabilities of the tokens, with so many rivals each."""
    echo: bool | None = None
    """Begin the answer with the prompt."""

    @model_validator(mode="after")
    def _fits_together(self) -> "CompletionRequest":
        if self.echo and self.logprobs is not None:
            raise ValueError("echo cannot be combined with logprobs: the prompt's own are not computed")
        if self.echo and self.suffix is not None:
            raise ValueError("echo cannot be combined with suffix")
        if self.suffix is not None and not isinstance(self.prompt, str):
            raise ValueError("suffix needs one prompt, as text")
        return self
