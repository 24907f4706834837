"""What test_ranks.py starts in each process: `gradients BASE OUT`, or `run BASE OUT`."""

import sys
from pathlib import Path

import torch

from fathom.config.parallel import ParallelConfig
from fathom.config.reason import ReasonRecipe
from fathom.parallel.mesh import World, processes
from fathom.reason.objective import Component, accumulate, add_up_gradients, cross_entropy, policy, to_reference
from fathom.reason.registry import make_task
from fathom.reason.scoring import Texts
from fathom.reason.zero import reinforce
from fathom.weights.folder import load

CLIPS = (0.2, 0.28)


def texts(seed: int, count: int) -> Texts:
    """Made-up texts of very different lengths, some of them far from the policy."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 20, (count,), generator=draw)
    prompts = torch.randint(2, 9, (count,), generator=draw)
    mask = (torch.arange(20) < lengths[:, None]).float()[:, : int(lengths.max())]
    old = -6 * torch.rand(mask.shape, generator=draw) * mask
    tokens = torch.randint(2, 300, (count, int((prompts + lengths).max())), generator=draw)
    return Texts(tokens, prompts, old, mask)


def gradients(base: Path, out: Path, world: World) -> None:
    """The gradients of three components over two sets of texts, of 7 and of 3."""
    model, reference = load(base, dtype=torch.float32), load(base, dtype=torch.float32)
    written, given = texts(1, 7), texts(2, 3)
    advantages = torch.linspace(-1, 1, 7)
    found = {}
    for name in ("grpo", "dr_grpo", "dapo", "gspo", "cispo"):
        loss, over = policy(name, advantages, CLIPS, 20)
        components = [
            Component("policy", 1.0, written, loss, over),
            Component("kl", 0.1, written, to_reference(reference, True, 0.9)),
            Component("given", 0.3, given, cross_entropy),
        ]
        model.zero_grad()
        values = accumulate(model, components, 2, 0.9, world)
        add_up_gradients(model, world)
        found[name] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None} | {
            f"value of {n}": torch.tensor(value) for n, value in values.items()
        }
    torch.save(found, out / f"{world.rank}.pt")


def run(base: Path, out: Path, world: World) -> None:
    """Some steps of reinforcement."""
    from conftest import VALUES

    values = VALUES | {"rl": VALUES["rl"] | {"reward": {"accuracy": 1.0, "format": 1.0}}}
    recipe = ReasonRecipe.validated(values, "test")
    task = make_task(recipe.task.name, **recipe.task.options)
    reinforce(recipe, task, base, out, precision=torch.float32, world=world)


if __name__ == "__main__":
    with processes(ParallelConfig(device="cpu")) as world:
        {"gradients": gradients, "run": run}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), world)
