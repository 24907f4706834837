"""Over several processes a step of reinforcement is the step of one: normalisers are those of all texts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "on_ranks.py"


def started(what: str, base: Path, out: Path, count: int) -> None:
    out.mkdir()
    assert spread([sys.executable, str(SCRIPT), what, str(base), str(out)], count) == [0] * count


def spread(command: list[str], count: int) -> list[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    common = os.environ | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [subprocess.Popen(command, env=common | {"RANK": str(rank)}) for rank in range(count)]
    try:
        return [process.wait(400) for process in running]
    finally:
        for process in running:
            process.kill()


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_gradients_are_the_same_on_one_two_and_four_processes(base, tmp_path):
    for count in (1, 2, 4):
        started("gradients", base, tmp_path / str(count), count)
    alone = torch.load(tmp_path / "1" / "0.pt")
    for count in (2, 4):
        for rank in range(count):
            found = torch.load(tmp_path / str(count) / f"{rank}.pt")
            for loss, gradients in alone.items():
                assert found[loss].keys() == gradients.keys()
                for name, gradient in gradients.items():
                    assert torch.allclose(found[loss][name], gradient, rtol=1e-4, atol=1e-6), (loss, name)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_run_over_two_processes_is_the_run_of_one(base, tmp_path):
    for count in (1, 2):
        started("run", base, tmp_path / str(count), count)
    logs = [(tmp_path / count / "metrics.jsonl").read_text().splitlines() for count in ("1", "2")]
    assert len(logs[0]) == len(logs[1]) == 4
    for one, two in zip(*(map(json.loads, log) for log in logs), strict=True):
        for name in ("reward", "length", "loss", "grad_norm"):
            assert two[name] == pytest.approx(one[name], abs=1e-4)
    one, two = (load_file(tmp_path / count / "model" / "model.safetensors") for count in ("1", "2"))
    assert all(torch.allclose(two[name], one[name], atol=1e-4) for name in one)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_several_processes_do_not_make_a_base_together(tmp_path):
    recipe = Path(__file__).parents[2] / "recipes" / "r1-zero-laptop.toml"
    assert spread([sys.executable, "-m", "fathom", "zero", str(recipe), "--run", str(tmp_path / "run")], 2) == [2, 2]
    assert not (tmp_path / "run" / "base").exists()
