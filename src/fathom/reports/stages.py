"""The page of R1's stages: the table in the paper's shape, curves of each stage, and what each stage writes."""

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from fathom.config.stages import R1Recipe
from fathom.reports.chart import HALF, Chart, Series
from fathom.reports.html import Tile, number, page, pair, section, table, tiles
from fathom.reports.words import duration
from fathom.train.run import read_lines

NAME = "report.html"
NAMES = {"base": "base", "zero": "Zero", "dev1": "Dev1", "dev2": "Dev2", "dev3": "Dev3", "r1": "R1"}
MADE = {
    "zero": "Zero: reinforcement straight on the base",
    "dev1": "Dev1: cold start, readable texts learned by the base",
    "dev2": "Dev2: reinforcement on reasoning, with the language reward",
    "dev3": "Dev3: right texts of Dev2 and general ones, learned by the base",
    "r1": "R1: reinforcement for all scenarios",
}
ROWS = {
    "accuracy": "right",
    "language": "in the right language",
    "format": "in the form",
    "readable": "readable",
    "length": "tokens",
    "checked": "with a check",
    "steps_right": "written steps right",
    "truncated": "cut off",
}
Table = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By stage, then by task and language."""

NOTE = (
    "All stages on the same held-out problems, means over all texts. 'In the right language' is the share of the "
    "thinking's words (of the reply's, where nothing is thought) in the problem's language; 'readable' the share of "
    "texts that are wholly in the cold start's form."
)


def table_rows(found: Table) -> list[list[str]]:
    """The table as text, its head first: a column a stage, a row a task, language and measure."""
    rows = [["", *(NAMES[stage] for stage in found)]]
    first = next(iter(found.values()), {})
    for cell, values in first.items():
        for measure, title in ROWS.items():
            if measure in values:
                shown = "{:.1f}" if measure == "length" else "{:.3f}"
                figures = [shown.format(found[stage][cell][measure]) for stage in found]
                rows.append([f"{cell.replace('_', ' ')}: {title}", *figures])
    return rows


def write_stages_report(run: Path, recipe: R1Recipe, found: Table) -> Path:
    """Write `report.html` of the stages in folder `run`, as far as they are, and return its path."""
    body = _tiles(run, found) + section("Stage by stage", _table(found), NOTE)
    body += "".join(_curves(run, stage) for stage in MADE)
    body += section("What each stage writes", _transcripts(found))
    foot = f"Written from {run.name}/ by `fathom r1`."
    text = page(f"R1's stages: {run.resolve().name}", recipe.about, body, foot)
    partial = run / f"{NAME}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, run / NAME)
    return run / NAME


def _tiles(run: Path, found: Table) -> str:
    entries = []
    if found:
        ends = (next(iter(found)), list(found)[-1])
        for cell in next(iter(found.values())):
            before, after = (found[stage][cell]["accuracy"] for stage in ends)
            entries.append(Tile(f"{before:.0%} → {after:.0%}", f"right: {cell.replace('_', ' ')}"))
    seconds = sum(steps[-1]["elapsed"] for stage in MADE if (steps := read_lines(run / stage / "metrics.jsonl")))
    if seconds:
        entries.append(Tile(duration(seconds), "for the stages, without the base"))
    return tiles(entries) if entries else ""


def _table(found: Table) -> str:
    rows = table_rows(found)
    return table(rows[0], [[row[0], *(number(value) for value in row[1:])] for row in rows[1:]])


def _curves(run: Path, stage: str) -> str:
    steps = read_lines(run / stage / "metrics.jsonl")
    if not steps:
        return ""
    if "reward" not in steps[0]:
        return section(MADE[stage], Chart("Loss", "step", "nats a token", [_series(steps, "loss", "one")]).svg())
    parts = [
        _series(steps, name, style) for name, style in (("accuracy", "one"), ("language", "two"), ("format", "three"))
    ]
    rewards = Chart("Parts of the reward", "step", "share", parts, from_zero=True, width=HALF).svg()
    length = Chart("Length", "step", "tokens of a text", [_series(steps, "length", "one")], width=HALF).svg()
    return pair(section(MADE[stage], rewards), section(f"{NAMES[stage]}: how long it thinks", length))


def _series(steps: list[dict[str, Any]], name: str, style: str) -> Series:
    return Series(name, [(step["step"], step[name]) for step in steps], style)


def _transcripts(found: Table) -> str:
    if not found:
        return '<p class="none">Nothing was recorded.</p>'
    rows = []
    for cell in next(iter(found.values())):
        for stage in found:
            for shown in found[stage][cell]["transcripts"][:1]:
                right = shown["score"]["accuracy"] == 1
                rows.append(
                    f'<tr><td>{escape(NAMES[stage])}</td><td class="sample"><b>{escape(shown["prompt"])}</b>'
                    f'{escape(shown["text"])}</td><td class="{"good" if right else "bad"}">'
                    f"{'right' if right else 'wrong'}</td></tr>"
                )
    head = "<thead><tr><th>stage</th><th></th><th></th></tr></thead>"
    return f'<table class="samples">{head}{"".join(rows)}</table>'
