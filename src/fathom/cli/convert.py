"""`fathom convert`: a model in another form."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from fathom.cli import asked, check, distance, mtp_module, upcycle
from fathom.cli.console import answer, answer_json
from fathom.errors import UsageError

DEFAULT = "SOURCE TARGET"


class WithDefault(TyperGroup):
    """Commands one of which needs no name: what is no other's name is its first argument."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command asked for, or the default with all of the arguments."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "", self.commands[DEFAULT], args


app = typer.Typer(
    cls=WithDefault,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def convert() -> None:
    """Write a model in another form: FP8, bf16 or other folders, GGUF files out and in. There is `--json` too.

    Example: `fathom convert runs/quickstart quickstart.gguf --type q8_0`
    """


@app.command(DEFAULT)
def model(
    source: Annotated[str, typer.Argument(help="A model folder, a run, a GGUF file, or the name of a shipped model.")],
    target: Annotated[Path, typer.Argument(help="Where to: a name that ends in .gguf for a file, else a folder.")],
    to: Annotated[
        Literal["hf", "gguf"] | None, typer.Option(help="The form, where the target's name does not say.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Number format. A folder: f32, bf16, f16, fp8, fp8-ue8m0; as stored without one. "
            "A GGUF file: f32, bf16, f16, q8_0, q4_0; bf16 without one.",
        ),
    ] = None,
    mtp: Annotated[
        bool, typer.Option(help="Whether a GGUF file holds MTP modules, which older llama.cpp cannot read.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands at the target.")] = False,
    json: asked.Json = False,
) -> None:
    """Write a model in another form; `fathom convert SOURCE TARGET --help` has the options.

    Example: `fathom convert smollm2-135m-instruct smollm2.gguf --type bf16`
    """
    from fathom.cli.find import check_free, model_folder
    from fathom.weights.convert import convert as run

    if to == "gguf" and target.suffix != ".gguf":
        raise UsageError(f"{target}: the name of a GGUF file ends in .gguf.")
    if to == "hf" and target.suffix == ".gguf":
        raise UsageError(f"{target}: a name that ends in .gguf is a GGUF file's; name a folder, or leave out --to.")
    check_free(target, force)
    place = Path(source) if Path(source).is_file() else model_folder(source)
    start = time.monotonic()
    report = run(place, target, kind.lower() if kind else None, mtp=mtp)
    if json:
        seconds = round(time.monotonic() - start, 3)
        names = {"source": report.source, "target": report.target, "form": report.form, "type": report.kind}
        answer_json(names | {"bytes": report.bytes, "seconds": seconds})
        return
    answer(f"{report.target}: {report.bytes / 1e6:,.1f} MB, {report.kind}")


app.command()(upcycle.upcycle)
app.command()(distance.distance)
app.command()(check.check)
app.command()(mtp_module.add_mtp)
