"""What a reinforced policy stands beside in its report: its base in several lights, and the run's controls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fathom.reason.controls import CONTROLS, FOLDER
from fathom.reports.html import Cell, number, paragraph, table
from fathom.train.run import read_json

COLUMNS = (
    ("accuracy", "right"),
    ("length", "tokens"),
    ("checked", "with a check"),
    ("steps_right", "steps right"),
    ("checks_right", "checks right"),
    ("truncated", "cut off"),
)
CLOSE = 0.05
"""Shares nearer than this are called alike: with 64 problems they differ by as much from one draw to the next."""
Judged = Mapping[str, Any]


def controls_of(run: Path) -> dict[str, Judged]:
    """By control, what the finished ones of a run reached on held-out problems."""
    found = {}
    for control in CONTROLS:
        folder = run / FOLDER / control
        judged = {int(step): values for step, values in read_json(folder / "judgements.json", {}).items()}
        if judged and (folder / "model").is_dir():
            found[control] = judged[max(judged)]
    return found


def beside(first: Judged, last: Judged, controls: Mapping[str, Judged]) -> str:
    """The table of the base, its controls and the policy, and what follows from it."""
    rows: list[tuple[str, Judged]] = [("the base", first)]
    if "forced" in first:
        rows.append(("the base, made to begin with a failed, checked attempt", first["forced"]))
    rows += [(f"the base, {CONTROLS[control]} ({control})", judged) for control, judged in controls.items()]
    rows.append(("the base, reinforced by the answer: this run", last))
    shown = [(name, title) for name, title in COLUMNS if name in first]
    most = max(int(k) for k in first["pass_at"])
    heads = ("", *(title for _, title in shown), f"pass@{most}")
    cells: list[list[str | Cell]] = [
        [who, *(number(_told(judged, name)) for name, _ in shown), number(f"{pass_at(judged, most):.3f}")]
        for who, judged in rows
    ]
    return table(heads, cells) + "".join(map(paragraph, verdicts(first, last, controls)))


def verdicts(first: Judged, last: Judged, controls: Mapping[str, Judged]) -> list[str]:
    """Whether the policy learned something or only chose what its base could do, in plain sentences."""
    most = max(int(k) for k in first["pass_at"])
    before, after, right = pass_at(first, most), pass_at(last, most), last["accuracy"]
    said = []
    if "forced" in first:
        forced = first["forced"]["accuracy"]
        alike = right <= forced + CLOSE
        what = "it chose a mode that the base had" if alike else "that is more than choosing the mode gives"
        said.append(
            f"Made to search, the base is right in {forced:.3f} of its texts, the policy in {right:.3f}: {what}."
        )
    if after <= before + CLOSE:
        said.append(
            f"pass@{most} went from {before:.3f} to {after:.3f}: reinforcement sharpened, making likely what the base "
            "could do already; hardly a problem came newly within reach."
        )
    else:
        said.append(
            f"pass@{most} went from {before:.3f} to {after:.3f}: problems that the base did not solve in {most} tries "
            "came within reach."
        )
    for control, judged in controls.items():
        if judged["accuracy"] >= right - CLOSE:
            said.append(
                f"The control {control} reaches {judged['accuracy']:.3f}: reinforcement was not needed for this."
            )
    return said


def pass_at(judged: Judged, k: int) -> float:
    """pass@k, whether it comes from memory or from JSON."""
    found = judged["pass_at"]
    return float(found[k] if k in found else found[str(k)])


def _told(judged: Judged, name: str) -> str:
    if name not in judged:
        return ""
    return f"{judged[name]:.1f}" if name == "length" else f"{judged[name]:.3f}"
