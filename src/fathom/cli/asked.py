"""Options that more than one command takes."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]

ModelName = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="A folder, a run or a model's name; without one, the newest finished run."),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", help="New tokens at most.")]
Temperature = Annotated[float, typer.Option("--temperature", "-t", help="0 always takes the likeliest token.")]
TopK = Annotated[int, typer.Option("--top-k", help="Draw among the k likeliest tokens; 0 for all.")]
TopP = Annotated[float, typer.Option("--top-p", help="Draw among the likeliest tokens that make up this probability.")]
MinP = Annotated[float, typer.Option("--min-p", help="Leave out tokens below this share of the likeliest one.")]
RepetitionPenalty = Annotated[float, typer.Option("--repetition-penalty", help="Above 1 discourages repetition.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed gives the same text.")]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="End at this string; may be given several times.")]

_MORE = "More about the text"
Count = Annotated[int, typer.Option("--count", "-c", help="So many completions.", rich_help_panel=_MORE)]
BestOf = Annotated[
    int | None, typer.Option("--best-of", help="Make so many and keep the likeliest.", rich_help_panel=_MORE)
]
MinTokens = Annotated[int, typer.Option("--min-tokens", help="New tokens at least.", rich_help_panel=_MORE)]
PresencePenalty = Annotated[
    float, typer.Option("--presence-penalty", help="Lowers tokens the text holds.", rich_help_panel=_MORE)
]
FrequencyPenalty = Annotated[
    float, typer.Option("--frequency-penalty", help="The same, each time they occur.", rich_help_panel=_MORE)
]
LogitBias = Annotated[
    list[str] | None,
    typer.Option(
        "--logit-bias", metavar="TOKEN=BIAS", help="Raise or lower a token, by its id.", rich_help_panel=_MORE
    ),
]
Logprobs = Annotated[
    int | None,
    typer.Option("--logprobs", help="With --json, the likeliest tokens of each place.", rich_help_panel=_MORE),
]
StopTokens = Annotated[
    list[int] | None, typer.Option("--stop-token", help="End at this token, by its id.", rich_help_panel=_MORE)
]
IgnoreEos = Annotated[
    bool, typer.Option("--ignore-eos", help="Go on after the end of a document.", rich_help_panel=_MORE)
]
ThinkingTokens = Annotated[
    int | None, typer.Option("--thinking-tokens", help="End the thinking after so many tokens.", rich_help_panel=_MORE)
]
_STRUCTURE = "Structure (a file, or the thing itself)"
JsonSchema = Annotated[
    str | None, typer.Option("--json-schema", help="A JSON value of this schema.", rich_help_panel=_STRUCTURE)
]
JsonObject = Annotated[bool, typer.Option("--json-object", help="Any JSON object.", rich_help_panel=_STRUCTURE)]
Regex = Annotated[str | None, typer.Option("--regex", help="A text that this matches.", rich_help_panel=_STRUCTURE)]
Lark = Annotated[str | None, typer.Option("--lark", help="A text of this Lark grammar.", rich_help_panel=_STRUCTURE)]
_ENGINE = "Engine"
Speculation = Annotated[
    str, typer.Option("--speculation", help="Guess ahead: off, auto, mtp or lookup.", rich_help_panel=_ENGINE)
]
DraftVocabulary = Annotated[
    int | None,
    typer.Option("--draft-vocabulary", help="Guess only tokens below this id.", min=1, rich_help_panel=_ENGINE),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", help="Hold the weights in fp32, bf16, int8 or int4; else as stored.", rich_help_panel=_ENGINE
    ),
]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache-folder", help="Keep what was read here.", rich_help_panel=_ENGINE)
]

RecipeName = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe such as quickstart.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Fields to change, such as train.steps=100.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field; may be given several times.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines in the place of the live view.")]
