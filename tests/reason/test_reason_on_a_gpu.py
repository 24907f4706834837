"""Reinforcement, fine-tuning and distillation on a pretended GPU: no two devices meet, numbers are the CPU's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fathom.config.reason import ReasonRecipe
from fathom.config.tuning import DistillRecipe, SFTRecipe
from fathom.parallel.mesh import World
from fathom.reason.distill import distill
from fathom.reason.sft import fine_tune
from fathom.reason.trainer import Surroundings
from fathom.reason.zero import reinforce
from pretended import pretended_gpu

CPU = torch.device("cpu")
SHORT = {"steps": 3, "problems": 2, "group_size": 3, "max_tokens": 6, "evaluate_problems": 1}
TUNED = {"batch_texts": 4, "micro_batch_texts": 2, "checkpoint_every": 2, "evaluate_problems": 2, "evaluate_texts": 2}
TUNED |= {"max_tokens": 6, "optimizer": {"learning_rate": 1e-2}}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    monkeypatch.setenv("FATHOM_TRITON", "0")
    monkeypatch.setenv("FATHOM_GRAPHS", "0")
    monkeypatch.setattr("fathom.engine.memory.free_memory", lambda device: 1 << 26)
    with pretended_gpu() as device:
        yield device


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    pairs = [{"prompt": f"{i} and {i}?\n", "reply": f"it is {2 * i}" * (1 + i % 3)} for i in range(8)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


def around(device: torch.device, **options: object) -> Surroundings:
    return Surroundings(precision=torch.float32, world=World(device), **options)


def same(one: Path, other: Path) -> None:
    """What both runs saw and left behind agrees to rounding."""
    seconds = {"elapsed", "rollout_seconds", "update_seconds"}
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (one, other)]
    for mine, theirs in zip(*lines, strict=True):
        found, wanted = ({k: v for k, v in json.loads(x).items() if k not in seconds} for x in (mine, theirs))
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    judged = [json.loads((folder / "judgements.json").read_text()) for folder in (one, other)]
    assert judged[0] == judged[1]
    tensors = [load_file(folder / "model/model.safetensors") for folder in (one, other)]
    assert all(torch.allclose(tensors[0][name], tensors[1][name], atol=1e-3) for name in tensors[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"kl_coefficient": 0.01, "reference_every": 2, "off_policy_bound": 0.1},
        {"top_p": 0.8, "keep_sampling_mask": True, "routing_replay": True, "loss": "gspo"},
    ],
)
def test_reinforcement_is_that_of_the_cpu(gpu, recipe, task, base, tmp_path, changes) -> None:
    values = recipe.model_dump()
    changed = ReasonRecipe.validated(values | {"rl": values["rl"] | SHORT | changes}, "test")
    for device in (CPU, gpu):
        folder = tmp_path / device.type
        assert reinforce(changed, task, base, folder, precision=torch.float32, world=World(device)).finished
    same(tmp_path / "cuda", tmp_path / "cpu")


def test_fine_tuning_is_that_of_the_cpu(gpu, task, base, file, tmp_path) -> None:
    recipe = SFTRecipe.validated({"base": {"folder": str(base)}, "files": ["given"], "sft": TUNED}, "test")
    for device in (CPU, gpu):
        assert fine_tune(recipe, [file], base, tmp_path / device.type, task=task, around=around(device)).finished
    same(tmp_path / "cuda", tmp_path / "cpu")


@pytest.mark.parametrize("vocabulary", ["sampled", "full"])
def test_distillation_is_that_of_the_cpu(gpu, task, base, file, tmp_path, vocabulary) -> None:
    both = TUNED | {"steps": 2, "reverse_kl": 0.5, "vocabulary": vocabulary, "problems": 2, "group_size": 2}
    values = {"task": {"name": "inverse"}, "base": {"folder": str(base)}, "texts": {"policy": "t"}, "distill": both}
    recipe = DistillRecipe.validated(values, "test")
    for device in (CPU, gpu):
        assert distill(recipe, task, base, [file], base, tmp_path / device.type, around=around(device)).finished
    same(tmp_path / "cuda", tmp_path / "cpu")
