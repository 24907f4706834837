"""`fathom report`: write a run's page again."""

from pathlib import Path
from typing import Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json
from fathom.cli.find import RUNS


def report(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a run.")],
    kwh: Annotated[float | None, typer.Option("--kwh", min=0, help="Dollars a kilowatt-hour.")] = None,
    watts: Annotated[
        float | None, typer.Option("--watts", min=0, help="Watts a busy core, where they cannot be measured.")
    ] = None,
    core_hour: Annotated[float | None, typer.Option("--core-hour", min=0, help="Dollars a rented core-hour.")] = None,
    json: asked.Json = False,
) -> None:
    """Write `report.html` of a run again, finished or not, perhaps at your own prices.

    Example: `fathom report quickstart --kwh 0.25`
    """
    from fathom.reports.cost import Prices
    from fathom.reports.report import write_report

    given = {"dollars_per_kwh": kwh, "watts_per_core": watts, "dollars_per_core_hour": core_hour}
    prices = Prices.validated({name: value for name, value in given.items() if value is not None}, "prices")
    folder = Path(run) if Path(run).is_dir() else RUNS / run
    path = write_report(folder, prices)
    if json:
        answer_json({"report": str(path)})
    else:
        answer(str(path))
