"""The page of a reasoning run: what reinforcement changed, in curves, figures and transcripts."""

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from fathom.config.reason import ReasonRecipe
from fathom.reports.beside import Judged, beside, controls_of, pass_at
from fathom.reports.chart import HALF, Chart, Series
from fathom.reports.html import Cell, Tile, number, page, pair, section, table, tiles
from fathom.reports.words import duration
from fathom.train.run import read_json, read_lines

NAME = "report.html"
PARTS = (
    ("length", "tokens of a text", "How long it thinks"),
    ("attempts", "attempts a text", "How often it tries"),
    ("checked", "share of texts with a check", "How often it checks"),
    ("steps_right", "share of written steps", "Are the written steps right?"),
    ("entropy", "nats a token", "Entropy"),
    ("zero_variance", "share of groups", "Groups that teach nothing"),
    ("truncated", "share of texts", "Texts cut off"),
    ("rollout_gap", "nats a token", "Gap between engine and training"),
)


def write_reasoning_report(run: Path, recipe: ReasonRecipe) -> Path:
    """Write `report.html` of the run in folder `run`, as far as it is, and return its path."""
    steps = read_lines(run / "metrics.jsonl")
    judgements = {int(step): values for step, values in read_json(run / "judgements.json", {}).items()}
    samples = read_lines(run / "samples.jsonl")
    body = _body(steps, judgements, samples, controls_of(run))
    text = page(f"Reasoning: {run.resolve().name}", recipe.about, body, _foot(run))
    partial = run / f"{NAME}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, run / NAME)
    return run / NAME


def _body(
    steps: list[dict[str, Any]],
    judgements: dict[int, dict[str, Any]],
    samples: list[dict[str, Any]],
    controls: Mapping[str, Judged],
) -> str:
    body = _figures(steps, judgements)
    body += section("Held-out problems", _passes(judgements) + _pass_table(judgements), PASS_NOTE)
    if len(judgements) > 1 or controls:
        first, last = judgements[min(judgements)], judgements[max(judgements)]
        body += section("Did it learn, or choose?", beside(first, last, controls), BESIDE_NOTE)
    reward = Chart("Reward", "step", "reward", [Series("reward", _points(steps, "reward"), "one", smooth=True)])
    body += section("Reward in training", reward.svg())
    charts = [
        section(title, Chart(title, "step", unit, [Series(title, _points(steps, name), "three")], width=HALF).svg())
        for name, unit, title in PARTS
        if steps and name in steps[0]
    ]
    for i in range(0, len(charts), 2):
        body += pair(*charts[i : i + 2])
    return body + section("Before and after", _transcripts(samples))


PASS_NOTE = "pass@k is the chance that one of k texts is right."
BESIDE_NOTE = (
    "The same held-out problems for all. Controls are the same base trained otherwise: by a reward that means nothing, "
    "by one for the form alone, by cross-entropy on the right ones of as many own texts, and on written replies."
)


def _figures(steps: list[dict[str, Any]], judgements: dict[int, dict[str, Any]]) -> str:
    if not judgements:
        return ""
    first, last = judgements[min(judgements)], judgements[max(judgements)]
    entries = [
        Tile(f"{first['accuracy']:.0%} → {last['accuracy']:.0%}", "right on held-out problems"),
        Tile(f"{first['length']:.0f} → {last['length']:.0f}", "tokens a text"),
    ]
    if "checked" in first:
        entries += [
            Tile(f"{first['checked']:.0%} → {last['checked']:.0%}", "of texts check a result"),
            Tile(f"{last['steps_right']:.1%}", "of written steps are right"),
        ]
    if steps:
        entries.append(Tile(duration(steps[-1]["elapsed"]), f"for {steps[-1]['step']} steps"))
    return tiles(entries)


def _passes(judgements: dict[int, dict[str, Any]]) -> str:
    ks = sorted({int(k) for values in judgements.values() for k in values["pass_at"]})
    shown = [k for k in ks if k in (1, 4, 16)]
    series = [
        Series(f"pass@{k}", [(step, pass_at(values, k)) for step, values in judgements.items()], style, dots=True)
        for k, style in zip(shown, ("one", "two", "three"), strict=False)
    ]
    return Chart("pass@k on held-out problems", "step", "share", series, from_zero=True).svg()


def _pass_table(judgements: dict[int, dict[str, Any]]) -> str:
    if not judgements:
        return ""
    ks = sorted(int(k) for k in judgements[min(judgements)]["pass_at"])
    rows: list[list[str | Cell]] = [
        [f"step {step}", *(number(f"{pass_at(judgements[step], k):.3f}") for k in ks)]
        for step in (min(judgements), max(judgements))
    ]
    if "forced" in judgements[min(judgements)]:
        forced = judgements[min(judgements)]["forced"]
        made = [number(f"{pass_at(forced, k):.3f}") for k in ks]
        rows.insert(1, ["step 0, made to begin with a failed, checked attempt", *made])
    return table(("", *(f"pass@{k}" for k in ks)), rows)


def _transcripts(samples: list[dict[str, Any]]) -> str:
    if not samples:
        return '<p class="none">Nothing was recorded.</p>'
    ends = {min(s["step"] for s in samples), max(s["step"] for s in samples)}
    rows = "".join(
        f'<tr><td>{sample["step"]}</td><td class="sample"><b>{escape(sample["prompt"])}</b>{escape(sample["text"])}'
        f'</td><td class="{"good" if sample["score"]["accuracy"] == 1 else "bad"}">'
        f"{'right' if sample['score']['accuracy'] == 1 else 'wrong'}</td></tr>"
        for sample in samples
        if sample["step"] in ends
    )
    head = "<thead><tr><th>step</th><th></th><th></th></tr></thead>"
    return f'<table class="samples">{head}{rows}</table>'


def _points(steps: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(step["step"], step[name]) for step in steps if name in step]


def _foot(run: Path) -> str:
    return f"Written from {run.name}/ by `fathom zero`."
