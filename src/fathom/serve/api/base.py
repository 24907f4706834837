"""What every request body shares: strict types, and unknown fields refused by name."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Body(BaseModel):
    """Part of a request."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is no Unicode text") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""Text that can be read: valid Unicode."""


def _nothing(value: Any) -> Any:
    return None if value == [] else value


Nothing = Annotated[None, BeforeValidator(_nothing)]
"""A field that some clients send empty."""

JsonObject = dict[str, Any]
Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(gt=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
StopString = Annotated[Text, Field(min_length=1, max_length=1024)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


StopStrings = Annotated[
    list[StopString],
    BeforeValidator(_listed, json_schema_input_type=StopString | Annotated[list[StopString], Field(max_length=16)]),
    Field(max_length=16),
]
"""One string or up to 16."""
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
