"""`fathom convert add-mtp`: an MTP module for a model that has none."""

from pathlib import Path
from typing import Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json
from fathom.cli.passages import spread, tokens_of


def add_mtp(
    source: Annotated[str, typer.Argument(help="A model folder of DeepSeek's architecture, or a run.")],
    target: Annotated[Path, typer.Argument(help="The folder to write.")],
    text: Annotated[list[Path], typer.Option("--text", help="Text to fit to; may be given several times.")],
    sequence: Annotated[int, typer.Option(min=16, help="Tokens read together.")] = 256,
    tokens: Annotated[int, typer.Option(min=512, help="Tokens of text to fit to, at most.")] = 32_768,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands at the target.")] = False,
    json: asked.Json = False,
) -> None:
    """Give a model an MTP module, so that it can guess its own text ahead; training makes the guesses good.

    Example: `fathom convert add-mtp upcycled with-mtp --text book.txt`, then `fathom pretrain mtp-module --run taught`
    """
    import torch

    from fathom.cli.find import check_free, model_folder
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.weights.append_mtp import agreement, append_mtp
    from fathom.weights.atomic import check_replaceable
    from fathom.weights.folder import load, save

    check_free(target, force)
    check_replaceable(target)
    folder = model_folder(source)
    ids = tokens_of(text, Tokenizer(folder))
    border = len(ids) * 9 // 10
    fitting, measuring = (
        spread(ids[:border], sequence, tokens, "--text"),
        spread(ids[border:], sequence, 2048, "--text"),
    )
    model = load(folder)
    model.compute_dtype = torch.float32
    made = append_mtp(model, fitting)
    share = agreement(made, measuring)
    save(made, target, tokenizer_from=folder)
    module = f"model.layers.{made.config.num_hidden_layers}."
    learning = sum(parameter.numel() for name, parameter in made.named_parameters() if name.startswith(module))
    if json:
        found = {"source": str(folder), "target": str(target), "module": module, "parameters": learning}
        answer_json(found | {"agreement": share, "tokens": fitting.numel()})
        return
    answer(f"{target}: {learning:,} parameters to be trained, all under {module}")
    answer(f"On the text's last tenth it guesses {share:.1%} of the tokens as the model itself chooses them.")
