"""`fathom serve`: the API and the chat page."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fathom.cli import asked
from fathom.cli.console import say
from fathom.cli.find import model_folder
from fathom.errors import UsageError


def serve(
    model: asked.ModelName = None,
    model_option: Annotated[
        str | None, typer.Option("--model", "-m", help="The same as MODEL.", show_default=False)
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; a public one needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="The port; 0 takes a free one.")] = 8000,
    keys: Annotated[Path | None, typer.Option("--keys", help="Ask for API keys; see `fathom keys`.")] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME[=chat|reasoner]", help="A further name of the model; may be repeated."),
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="deepseek-v3, deepseek-r1 or deepseek-v3.1; else the model's own.")
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the chat page.")] = True,
    data: Annotated[Path | None, typer.Option("--data", help="Where the page's chats are kept.")] = None,
    knowledge: Annotated[
        Path | None, typer.Option("--knowledge", help="A folder of documents that the page's answers may cite.")
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings",
            metavar="MODEL",
            help="Find documents by what they mean, too, and answer at /embeddings; smollm2-135m-instruct will do.",
        ),
    ] = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="A file that says what is refused and why.")] = None,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="Write who asked when and how much to this file.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A further name of this server; may be repeated.")
    ] = None,
    batch: Annotated[int, typer.Option("--max-batch", help="Answers written at once; others wait.")] = 256,
    cache_tokens: Annotated[
        int | None, typer.Option("--cache-tokens", help="Room of the cache, in tokens; else as memory allows.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", help="Hold the weights in fp32, bf16, int8 or int4; as they are stored if not given."
        ),
    ] = None,
    speculation: Annotated[
        str, typer.Option("--speculation", help="Guess tokens ahead: off, auto, mtp or lookup.")
    ] = "off",
    draft_vocabulary: Annotated[
        int | None, typer.Option("--draft-vocabulary", min=1, help="Guess only tokens below this id.")
    ] = None,
    spill: Annotated[
        Path | None, typer.Option("--spill", help="Keep the cache in this folder across restarts.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a limit, such as limits.max_tokens=1000."),
    ] = None,
) -> None:
    """Serve a model: DeepSeek's, OpenAI's and Anthropic's interfaces, and the chat page.

    Example: `fathom serve runs/quickstart --port 8000`
    """
    if model is not None and model_option is not None:
        raise UsageError("MODEL and --model name the same thing: give one.")
    folder = model_folder(model or model_option)
    embedder = None if embeddings is None else model_folder(embeddings)
    from fathom.cli.loading import is_chat_model
    from fathom.serve.run import address, check_address, listen, run
    from fathom.weights.formats import check_format

    settings = _settings(
        {
            "host": host,
            "port": port,
            "keys": keys,
            "names": dict(_name(text) for text in name or ()),
            "page": (data or default_data()) if page else None,
            "knowledge": knowledge,
            "policy": policy,
            "audit": audit,
            "hosts": tuple(allow_host or ()),
        },
        changes or [],
    )
    check_address(settings)
    check_format(weights)
    # The port is asked for before the model is loaded, which may take minutes.
    listener = listen(settings)
    app = _app(
        folder,
        settings,
        template,
        weights,
        chats=is_chat_model(folder),
        embeddings=embedder,
        engine={
            "max_batch_size": batch,
            "cache_tokens": cache_tokens,
            "spill_folder": spill,
            "speculation": speculation,
            "draft_vocabulary": draft_vocabulary,
        },
    )
    say(f"Serving {', '.join(app.state.desk.names)} at {address(listener)}/v1 (Anthropic: /anthropic).")
    if page:
        say(f"Chat page: {address(listener)}")
    run(app, settings, listener)


def _app(
    folder: Path,
    settings: Any,
    template: str | None,
    weights: str | None,
    *,
    chats: bool,
    embeddings: Path | None,
    engine: dict[str, Any],
) -> Any:
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.engine.config import EngineConfig
    from fathom.engine.engine import Engine
    from fathom.engine.service import AsyncEngine
    from fathom.parallel.device import best_device
    from fathom.serve.app import create_app
    from fathom.serve.embedder import Embedder
    from fathom.serve.encoding import TEMPLATES, template_of
    from fathom.weights.formats import load_in_format

    if template is not None and template not in TEMPLATES:
        raise UsageError(f"There is no template '{template}': name one of {', '.join(TEMPLATES)}.")
    engine["max_batched_tokens"] = max(EngineConfig.max_batched_tokens, engine["max_batch_size"])
    config = EngineConfig(**engine)
    tokenizer = Tokenizer(folder)
    model = load_in_format(folder, weights, best_device())
    service = AsyncEngine(Engine(model, tokenizer, config))
    return create_app(
        settings,
        service,
        tokenizer,
        template=TEMPLATES[template] if template else template_of(tokenizer),
        model=folder.resolve().name if folder.name != "model" else folder.resolve().parent.name,
        context_length=model.config.max_position_embeddings,
        vocab_size=model.config.vocab_size,
        chats=chats,
        embedder=None if embeddings is None else Embedder.load(embeddings),
    )


def _settings(values: dict[str, Any], changes: list[str]) -> Any:
    from fathom.config.recipe import apply_overrides
    from fathom.serve.settings import ServeSettings

    return ServeSettings.validated(apply_overrides(values, changes), "serve")


def _name(text: str) -> tuple[str, dict[str, bool | None]]:
    name, given, kind = text.partition("=")
    if not name or (given and kind not in ("chat", "reasoner")):
        raise UsageError(f"--name {text} is no name: write NAME, NAME=chat or NAME=reasoner.")
    return name, {"thinking": {"chat": False, "reasoner": True}.get(kind)}


def default_data() -> Path:
    """The user's folder for chats and keys: FATHOM_DATA, or the user's data folder."""
    import os

    base = os.environ.get("FATHOM_DATA")
    return Path(base) if base else Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "fathom"
