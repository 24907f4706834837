"""`fathom generate`: continue a text."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fathom.cli import asked
from fathom.cli.console import answer_json
from fathom.cli.find import model_folder
from fathom.errors import UsageError

if TYPE_CHECKING:
    from fathom.engine.engine import Engine
    from fathom.engine.request import Completion


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A folder, a run or a model's name; the newest run.")
    ] = None,
    message: Annotated[
        bool, typer.Option("--message", help="The prompt is a message to a chat model; only its answer is shown.")
    ] = False,
    max_tokens: asked.MaxTokens = 128,
    temperature: asked.Temperature = 0.8,
    top_k: asked.TopK = 0,
    top_p: asked.TopP = 0.95,
    min_p: asked.MinP = 0.0,
    repetition_penalty: asked.RepetitionPenalty = 1.0,
    seed: asked.Seed = None,
    stop: asked.Stop = None,
    count: asked.Count = 1,
    best_of: asked.BestOf = None,
    min_tokens: asked.MinTokens = 0,
    presence_penalty: asked.PresencePenalty = 0.0,
    frequency_penalty: asked.FrequencyPenalty = 0.0,
    logit_bias: asked.LogitBias = None,
    logprobs: asked.Logprobs = None,
    stop_token: asked.StopTokens = None,
    ignore_eos: asked.IgnoreEos = False,
    thinking_tokens: asked.ThinkingTokens = None,
    json_schema: asked.JsonSchema = None,
    json_object: asked.JsonObject = False,
    regex: asked.Regex = None,
    lark: asked.Lark = None,
    speculation: asked.Speculation = "off",
    draft_vocabulary: asked.DraftVocabulary = None,
    cache_folder: asked.CacheFolder = None,
    weights: asked.Weights = None,
    json: asked.Json = False,
) -> None:
    """Continue a text with a model.

    Example: `fathom generate "Once upon a time" --model runs/quickstart --temperature 0.7`
    """
    from fathom.cli import wishes
    from fathom.cli.loading import is_chat_model, load_engine
    from fathom.engine.config import EngineConfig
    from fathom.engine.sampling import SamplingParams

    text = sys.stdin.read() if prompt == "-" else prompt
    if not text:
        raise UsageError("The prompt is empty: give the beginning of a text.")
    params = SamplingParams(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=wishes.logit_bias(logit_bias or ()),
        seed=seed,
        n=count,
        best_of=best_of,
        logprobs=logprobs,
        stop=tuple(stop or ()),
        stop_token_ids=tuple(stop_token or ()),
        ignore_eos=ignore_eos,
        structured=wishes.structure(json_schema, json_object, regex, lark),
    )
    config = EngineConfig(
        max_batch_size=16,
        speculation=cast(Any, speculation),
        draft_vocabulary=draft_vocabulary,
        spill_folder=cache_folder,
    )
    folder = model_folder(model)
    with load_engine(folder, config, weights) as engine:
        assert engine.tokenizer is not None
        params = replace(params, thinking=wishes.thinking(thinking_tokens, engine.tokenizer))
        given, shown = (_turn(engine, text), "") if message else (text, text)
        if json:
            answer_json(_answer(text, engine.generate([given], params)))
        elif max(count, best_of or 1) > 1:
            for number, completion in enumerate(engine.generate([given], params), 1):
                typer.echo(f"--- {number}: {completion.finish_reason}\n{shown}{completion.text}")
        else:
            stream = engine.stream(given, params)
            typer.echo(shown, nl=False)
            for piece in stream:
                typer.echo(piece, nl=False)
                sys.stdout.flush()
            typer.echo()
            if not message and not stream.completion.text and is_chat_model(folder):
                typer.echo("The model ended the text at once. It is a chat model: with --message it answers.", err=True)


def _turn(engine: "Engine", text: str) -> tuple[int, ...]:
    from fathom.cli.talk import turns_of
    from fathom.serve.encoding import Message

    return turns_of(engine, [Message("user", text)])


def _answer(text: str, completions: "list[Completion]") -> dict[str, Any]:
    """The first completion beside the prompt, and all of them where there are several."""
    each = [
        {
            "text": completion.text,
            "tokens": completion.tokens,
            "logprobs": completion.logprobs,
            "top_logprobs": completion.top_logprobs,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "cached_tokens": completion.cached_tokens,
        }
        for completion in completions
    ]
    return {"prompt": text, **each[0]} | ({"completions": each} if len(each) > 1 else {})
