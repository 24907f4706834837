"""The page of a fine-tuned or distilled model: how its losses fell, and what it writes before and after."""

import os
from html import escape
from pathlib import Path
from typing import Any

from fathom.reports.chart import HALF, Chart, Series
from fathom.reports.html import Cell, Tile, number, page, pair, section, table, tiles
from fathom.reports.words import big, duration
from fathom.train.run import read_json, read_lines

NAME = "report.html"
LOSSES = (
    ("loss", "Loss", "one"),
    ("cross_entropy", "On given texts", "two"),
    ("reverse_kl", "On its own texts", "three"),
)
PARTS = (
    ("grad_norm", "norm", "Gradient's norm before clipping"),
    ("learning_rate", "rate", "Learning rate"),
    ("accuracy", "share of texts", "Right among its own texts in training"),
    ("length", "tokens", "Length of its own texts in training"),
)
JUDGED = (
    ("accuracy", "right"),
    ("length", "tokens of a text"),
    ("truncated", "cut off"),
    ("attempts", "attempts"),
    ("checked", "with a check"),
    ("steps_right", "written steps right"),
    ("checks_right", "checks right"),
)


def write_tuning_report(run: Path, about: str, command: str) -> Path:
    """Write `report.html` of the run in folder `run`, as far as it is, and return its path."""
    steps = read_lines(run / "metrics.jsonl")
    judgements = {int(step): values for step, values in read_json(run / "judgements.json", {}).items()}
    body = _figures(steps, judgements)
    if judgements:
        body += section("Held-out problems", _judged(judgements))
    losses = [Series(title, _points(steps, name), style, smooth=True) for name, title, style in LOSSES]
    body += section("Loss", Chart("Loss", "step", "nats a token", losses).svg())
    charts = [
        section(title, Chart(title, "step", unit, [Series(title, _points(steps, name), "three")], width=HALF).svg())
        for name, unit, title in PARTS
        if _points(steps, name)
    ]
    for i in range(0, len(charts), 2):
        body += pair(*charts[i : i + 2])
    if judgements:
        body += section("Before and after", _transcripts(read_lines(run / "samples.jsonl")))
    text = page(f"{run.resolve().name}", about, body, f"Written from {run.name}/ by `fathom {command}`.")
    partial = run / f"{NAME}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, run / NAME)
    return run / NAME


def _figures(steps: list[dict[str, Any]], judgements: dict[int, dict[str, Any]]) -> str:
    entries = []
    if judgements:
        first, last = judgements[min(judgements)], judgements[max(judgements)]
        entries.append(Tile(f"{first['accuracy']:.0%} → {last['accuracy']:.0%}", "right on held-out problems"))
    if steps:
        entries += [
            Tile(f"{steps[0]['loss']:.3f} → {steps[-1]['loss']:.3f}", "loss, first and last step"),
            Tile(big(sum(step["trained_tokens"] for step in steps)), "tokens trained on, prompts included"),
            Tile(duration(steps[-1]["elapsed"]), f"for {steps[-1]['step']} steps"),
        ]
    return tiles(entries) if entries else ""


def _judged(judgements: dict[int, dict[str, Any]]) -> str:
    shown = [(name, title) for name, title in JUDGED if name in judgements[min(judgements)]]
    rows: list[list[str | Cell]] = [
        [f"step {step}", *(number(f"{values[name]:.3f}") for name, _ in shown)]
        for step, values in sorted(judgements.items())
    ]
    return table(("", *(title for _, title in shown)), rows)


def _transcripts(samples: list[dict[str, Any]]) -> str:
    """The same problems at the first and the last judgement, one after the other."""
    if not samples:
        return '<p class="none">Nothing was recorded.</p>'
    ends = sorted({min(s["step"] for s in samples), max(s["step"] for s in samples)})
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        if sample["step"] in ends:
            by_prompt.setdefault(sample["prompt"], []).append(sample)
    return "".join(_transcript(prompt, texts) for prompt, texts in by_prompt.items())


def _transcript(prompt: str, texts: list[dict[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td>{text["step"]}</td><td class="sample">{escape(text["text"])}</td>{_verdict(text)}</tr>'
        for text in texts
    )
    head = f'<thead><tr><th>step</th><th class="sample">{escape(prompt)}</th><th></th></tr></thead>'
    return f'<table class="samples">{head}<tbody>{rows}</tbody></table>'


def _verdict(text: dict[str, Any]) -> str:
    right = text["score"]["accuracy"] == 1
    return f'<td class="{"good" if right else "bad"}">{"right" if right else "wrong"}</td>'


def _points(steps: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(step["step"], step[name]) for step in steps if name in step]
