"""`report.html` of a run: what it learned, how it went, what it cost, in one file that needs nothing else."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fathom.reports import cost as costs
from fathom.reports import sections
from fathom.reports.cost import Prices
from fathom.reports.html import page, pair
from fathom.reports.run import RunRecord

NAME = "report.html"


def write_report(run: Path, prices: Prices | None = None) -> Path:
    """Write the report of the run in folder `run` and return its path; an unfinished run as far as it is."""
    record = RunRecord.load(run)
    text = render(record, prices or Prices())
    path = run / NAME
    partial = path.with_name(NAME + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def render(record: RunRecord, prices: Prices) -> str:
    """The whole page."""
    price = costs.cost_of(record, prices)
    body = "".join(
        (
            sections.figures(record, price),
            sections.held_out(record),
            pair(sections.loss(record), sections.speed(record)),
            sections.balance(record),
            sections.samples(record),
            pair(sections.cost(record, price, prices), sections.network(record)),
            sections.text(record),
            sections.recipe(record),
        )
    )
    title = record.folder.resolve().name
    return page(f"Run {title}", sections.lead(record), body, _foot(record))


def _foot(record: RunRecord) -> str:
    started = record.provenance[0]["started"] if record.provenance else "an unknown time"
    return f"Begun {started}. Written from the run folder by `fathom report {record.folder}` (Fathom {_version()})."


def _version() -> str:
    try:
        return version("fathom-lm")
    except PackageNotFoundError:
        return "not installed"
