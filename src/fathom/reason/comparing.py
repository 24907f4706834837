"""The table of stages: every stage's model on the same held-out problems, by task and language."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fathom.config.stages import ComparisonConfig
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine, EngineConfig
from fathom.parallel.mesh import ALONE
from fathom.reason.judging import judge
from fathom.reason.rollouts import Group, Sampling
from fathom.reason.task import Task
from fathom.reason.trainer import digest_of_weights
from fathom.train.run import read_json, write_json
from fathom.weights.folder import load

SHOWN = ("accuracy", "language", "format", "readable", "length", "checked", "steps_right", "truncated")
"""Rows of the table, where the task has them."""
TRANSCRIPTS = 2


def compare(
    model: Path,
    cells: Mapping[str, Task],
    how: ComparisonConfig,
    kept: Path,
    precision: torch.dtype = torch.bfloat16,
    device: torch.device = ALONE.device,
) -> dict[str, dict[str, Any]]:
    """What the model in folder `model` does on each cell's task: the means of `SHOWN` and some transcripts.

    Kept in the file `kept`, and found ready there for the same weights, tasks and settings.
    """
    mark = [digest_of_weights(model), how.model_dump(), {name: repr(task) for name, task in cells.items()}]
    found = read_json(kept, {})
    if found.get("of") == mark:
        ready: dict[str, dict[str, Any]] = found["cells"]
        return ready
    network, tokenizer = load(model, dtype=torch.float32).to(device), Tokenizer(model)
    network.compute_dtype = precision
    sampling = Sampling(how.texts, how.max_tokens, how.temperature)
    with Engine(network, tokenizer, EngineConfig(max_batch_size=256)) as engine:
        judged = {name: judge(engine, tokenizer, task, sampling, how.problems) for name, task in cells.items()}
    values = {name: _row(judgement.told, judgement.groups) for name, judgement in judged.items()}
    write_json(kept, {"of": mark, "cells": values})
    return values


def _row(told: Mapping[str, Any], groups: tuple[Group, ...]) -> dict[str, Any]:
    texts = [text for group in groups for text in group.rollouts]
    row = {name: told[name] for name in SHOWN if name in told}
    if "readable" in texts[0].score.counts:
        row["readable"] = sum(text.score.counts["readable"] for text in texts) / len(texts)
    shown = [
        {"prompt": group.problem.prompt, "text": group.rollouts[0].text, "score": asdict(group.rollouts[0].score)}
        for group in groups[:TRANSCRIPTS]
    ]
    return {**row, "transcripts": shown}
