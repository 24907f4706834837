"""`fathom models`: what is at hand."""

from typing import Annotated

import typer

from fathom.cli.console import answer, answer_json, table
from fathom.cli.find import RUNS, is_model, run_folders


def models(
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """List the runs in `runs/` and the configurations that have a name.

    Example: `fathom models`
    """
    from fathom.config.presets import PUBLISHED

    runs = [
        {"name": folder.name, "folder": str(folder), "finished": is_model(folder / "model")}
        for folder in reversed(run_folders())
    ]
    names = [*PUBLISHED, "laptop-N"]
    if json:
        answer_json({"runs": runs, "configurations": names})
        return
    if runs:
        rows = [("run", "state", "folder")]
        rows += [(str(r["name"]), "finished" if r["finished"] else "not finished", str(r["folder"])) for r in runs]
        answer(table(rows))
    else:
        answer(f"No runs in {RUNS}/ yet: `fathom quickstart` makes the first.")
    answer()
    answer(f"Configurations (for recipes and `fathom params`): {', '.join(names)}; N is the depth.")
