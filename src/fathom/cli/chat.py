"""`fathom chat`: talk to a model in the terminal."""

import sys
from typing import Annotated

import typer

from fathom.cli import asked
from fathom.cli.find import model_folder


def chat(
    model: asked.ModelName = None,
    system: Annotated[str, typer.Option("--system", help="What a chat model is told before you speak.")] = "",
    plain: Annotated[
        bool | None,
        typer.Option("--complete/--turns", help="Continue texts, or take turns; without either, as the model learned."),
    ] = None,
    max_tokens: asked.MaxTokens = 256,
    temperature: asked.Temperature = 0.8,
    top_k: asked.TopK = 0,
    top_p: asked.TopP = 0.95,
    min_p: asked.MinP = 0.0,
    repetition_penalty: asked.RepetitionPenalty = 1.0,
    seed: asked.Seed = None,
    stop: asked.Stop = None,
    weights: asked.Weights = None,
) -> None:
    """Talk to a model in the terminal, line by line.

    A base model continues each line; a chat model takes turns. Example: `fathom chat runs/quickstart`
    """
    from fathom.cli.loading import is_chat_model, load_engine
    from fathom.cli.talk import Chatter, Completer, talk
    from fathom.engine.sampling import SamplingParams

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
    )
    folder = model_folder(model)
    engine = load_engine(folder, weights=weights)
    turns = is_chat_model(folder) if plain is None else not plain
    partner = Chatter(engine, params, system) if turns else Completer(engine, params)
    talk(partner, person=sys.stdin.isatty())
