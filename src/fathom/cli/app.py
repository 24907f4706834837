"""The `fathom` command: its parts, and what becomes of an error.

Commands import what they need when they run, so that `fathom --help` answers at once.
"""

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fathom.cli import (
    bench,
    chat,
    convert,
    corpus,
    distill,
    evaluate,
    generate,
    keys,
    models,
    params,
    plan,
    pretrain,
    quickstart,
    r1,
    report,
    serve,
    sft,
    zero,
)
from fathom.errors import FathomError
from fathom.launch import prepare_process

DEBUG = "--debug"


class Commands(TyperGroup):
    """The commands, each failure of theirs told in one paragraph on standard error."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` wherever it stands before a `--`, so that it may be added at the end of a line that failed."""
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = DEBUG in args[:end]
        return super().parse_args(ctx, [arg for arg in args[:end] if arg != DEBUG] + args[end:])

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and turn what it raises into words and an exit status."""
        try:
            return super().invoke(ctx)
        except FathomError as error:
            raise self._told(str(error), error.exit_code, debug=ctx.obj) from error
        except KeyboardInterrupt as error:
            raise self._told("Stopped.", 130, debug=ctx.obj) from error
        except BrokenPipeError as error:
            # The reader of our output has gone; Python must not try to flush to it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from error
        except OSError as error:
            raise self._told(describe(error), 1, debug=ctx.obj) from error
        except MemoryError as error:
            words = "The machine's memory is full: use a smaller model, batch or sequence, or close other programs."
            raise self._told(words, 1, debug=ctx.obj) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if type(error).__module__.startswith(("typer", "click")):
                raise
            words = (
                f"Something went wrong that Fathom did not foresee ({type(error).__name__}: {error}). "
                f"Add {DEBUG} to the command to see where."
            )
            raise self._told(words, 1, debug=ctx.obj) from error

    def _told(self, words: str, status: int, *, debug: bool) -> typer.Exit:
        if debug and status != 130:
            import traceback

            traceback.print_exc()
        else:
            typer.echo(words, err=True)
        return typer.Exit(status)


def describe(error: OSError) -> str:
    """Say which file the system would not read or write, and why."""
    import errno

    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{where}: make room and run the same command again; what was complete before is kept."
    return f"{error.strerror or error}{where}."


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fathom {version('fathom-lm')}")
        raise typer.Exit


app = typer.Typer(
    name="fathom",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show tracebacks; may stand anywhere on the line.")] = False,
) -> None:
    """Fathom: the DeepSeek system, open and whole, at any size.

    Begin with `fathom quickstart`: it trains a small DeepSeek-V3 on real text and lets you talk to it.
    """


START, MAKE, USE = "Start here", "Make a model", "Use a model"

app.command(rich_help_panel=START)(quickstart.quickstart)
app.command(rich_help_panel=START)(params.params)
app.command(rich_help_panel=START)(models.models)
app.command(rich_help_panel=MAKE)(corpus.corpus)
app.command(rich_help_panel=MAKE)(plan.plan)
app.command(rich_help_panel=MAKE)(pretrain.pretrain)
app.command(rich_help_panel=MAKE)(zero.zero)
app.command(rich_help_panel=MAKE)(r1.r1)
app.command(rich_help_panel=MAKE)(sft.sft)
app.command(rich_help_panel=MAKE)(distill.distill)
app.command(rich_help_panel=MAKE)(evaluate.evaluate)
app.command(rich_help_panel=MAKE)(report.report)
app.add_typer(convert.app, name="convert", rich_help_panel=MAKE)
app.command(rich_help_panel=USE)(generate.generate)
app.command(rich_help_panel=USE)(chat.chat)
app.add_typer(bench.bench, name="bench", rich_help_panel=USE)
app.command(rich_help_panel=USE)(serve.serve)
app.command(rich_help_panel=USE)(keys.keys)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 shows a mark for what it cannot show, and nothing fails for it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    prepare_process()
    app()


if __name__ == "__main__":
    main()
