"""Texts a second of a reinforcement step, and the step itself, beside transformers and TRL at equal settings.

    python benchmarks/reason_rollouts.py [--policy r1-zero-laptop] [--threads 1] [--rounds 3] [--dtype bf16]
                                         [--parts rollouts step] [--settings laptop smollm2]

Rollouts: the same prompts, each as often as its group is large, at temperature 1, up to the same number of new tokens,
by Fathom's engine and by `transformers.generate` in TRL's manner: prompts repeated and padded on the left, one call for
all, which ends with the longest text. Two settings: the laptop's reinforced policy and SmolLM2-135M-Instruct, as their
recipes ask them. Only tokens of texts count, not what is written after their ends.

Step: forward and backward pass of the policy loss on the texts that Fathom wrote: Fathom's, TRL's `GRPOTrainer` where
`trl` can be imported, and plain transformers with a (tokens, vocabulary) log-softmax. Peak memory is the process's,
less what it held before.

All compute in `--dtype`. Fathom's weights are FP32, as training has them. transformers is measured twice in bf16: with
weights held in bf16, and as TRL's trainer has it unless told otherwise, FP32 weights under autocast (`autocast`). Each
contender has a process of its own, one after the other. Seconds are of processor time on one thread, which neighbours
disturb less than the clock; on several, of the clock.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common

CONTENDERS = ("fathom", "transformers", "autocast", "trl")
LENGTH_OF_A_RUN = 600


@dataclass(frozen=True)
class Setting:
    """Who writes, on what, how much."""

    name: str
    model: str
    task: dict[str, Any]
    problems: int
    group: int
    max_tokens: int


def settings(policy: str) -> list[Setting]:
    """The two of the recipes."""
    return [
        Setting("laptop", policy, {"name": "inverse", "steps": 3}, 16, 16, 200),
        Setting("smollm2", "smollm2-135m-instruct", {"name": "sums", "largest": 20}, 4, 16, 48),
    ]


def main() -> None:
    """Measure each contender in a process of its own and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="r1-zero-laptop", help="a run of fathom zero, or a model folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", default=["laptop", "smollm2"])
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="of all products")
    parser.add_argument("--parts", nargs="+", choices=["rollouts", "step"], default=["rollouts", "step"])
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--texts", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    chosen = [setting for setting in settings(asked.policy) if setting.name in asked.settings]
    if asked.only:
        import torch

        torch.set_num_threads(asked.threads)
        print(json.dumps(MEASURE[asked.only](chosen[0], asked.texts, asked)))
        return
    contenders = [one for one in CONTENDERS if one != "trl" or "step" in asked.parts]
    contenders = [one for one in contenders if one != "autocast" or asked.dtype == "bf16"]
    found: dict[str, dict[str, Any]] = {}
    for setting in chosen:
        with tempfile.TemporaryDirectory() as folder:
            texts = Path(folder) / "texts.pt"
            found[setting.name] = {name: alone(name, setting, texts, asked) for name in contenders}
    report(found, asked)


def alone(contender: str, setting: Setting, texts: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """What a contender's process found; a contender that cannot run says why."""
    command = [sys.executable, __file__, "--only", contender, "--texts", str(texts), "--settings", setting.name]
    command += ["--policy", asked.policy, "--threads", str(asked.threads), "--rounds", str(asked.rounds)]
    command += ["--dtype", asked.dtype, "--parts", *asked.parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LENGTH_OF_A_RUN)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(work: Callable[[], Any], asked: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a call, and the memory that its peak adds."""
    work()
    held, clock, processor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], []
    for _ in range(asked.rounds):
        begin, mine = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - begin)
        processor.append(time.process_time() - mine)
    counted = processor if asked.threads == 1 else clock
    return {"seconds": statistics.median(counted), "clock": statistics.median(clock), "peak": held}


# -- Fathom


def fathom(setting: Setting, texts: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Write with the engine, keep the texts for the others, and do the loss of `fathom zero`."""
    import torch

    from fathom.cli.find import model_folder
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.engine.engine import Engine, EngineConfig
    from fathom.reason.objective import Component, accumulate, policy
    from fathom.reason.registry import make_task
    from fathom.reason.rollouts import Sampling, roll_out
    from fathom.reason.scoring import texts_of
    from fathom.weights.folder import load

    folder = model_folder(setting.model)
    model, tokenizer = load(folder, dtype=torch.float32), Tokenizer(folder)
    model.compute_dtype = dtype_of(asked)
    engine = Engine(model, tokenizer, EngineConfig(max_batch_size=256))
    options = {name: value for name, value in setting.task.items() if name != "name"}
    task, rng = make_task(setting.task["name"], **options), random.Random(1)
    problems = [task.sample(rng) for _ in range(setting.problems)]
    how, seeds, tokens = Sampling(setting.group, setting.max_tokens), iter(range(100)), []

    def write() -> Any:
        engine.forget()
        groups = roll_out(engine, tokenizer, task, problems, how, next(seeds))
        tokens.append(sum(len(text.tokens) for group in groups for text in group.rollouts))
        return groups

    rollouts = measured(write, asked)
    written = texts_of(write())
    torch.save(
        {"tokens": written.tokens, "prompts": written.prompt_lengths, "mask": written.mask, "ends": tokenizer.eos_id},
        texts,
    )
    rate = statistics.median(tokens[1:-1]) / rollouts["seconds"]
    result: dict[str, Any] = {"rollouts": rollouts | {"tokens_per_second": rate}}
    if "step" not in asked.parts:
        return result
    # A process that has only loaded the model would be the fair beginning; the engine's cache is let go instead.
    engine.close()
    before = memory()
    advantages = torch.linspace(-1, 1, len(written))
    loss, over = policy("grpo", advantages, (0.2, 0.2), setting.max_tokens)
    micro = 64 if setting.name == "laptop" else 16

    def step() -> None:
        model.zero_grad(set_to_none=True)
        accumulate(model, [Component("policy", 1.0, written, loss, over)], micro)

    found = measured(step, asked)
    found["peak"] = peak() - before
    return result | {"step": found | {"texts_at_once": micro}}


# -- the others


def prepared(setting: Setting, texts: Path, dtype: Any) -> tuple[Any, Any, dict[str, Any]]:
    """transformers' model in training, its texts cut to prompts padded on the left and replies on the right."""
    import torch
    from transformers import AutoModelForCausalLM

    from fathom.cli.find import model_folder

    given = torch.load(texts)
    model = AutoModelForCausalLM.from_pretrained(model_folder(setting.model), dtype=dtype)
    lengths, mask = given["prompts"], given["mask"].long()
    wide, end = int(lengths.max()), given["ends"]
    n, longest = mask.shape
    prompts, prompt_mask = torch.full((n, wide), end), torch.zeros(n, wide, dtype=torch.int64)
    replies = torch.full((n, longest), end)
    for i, length in enumerate(lengths.tolist()):
        prompts[i, wide - length :], prompt_mask[i, wide - length :] = given["tokens"][i, :length], 1
        mine = int(mask[i].sum())
        replies[i, :mine] = given["tokens"][i, length : length + mine]
    inputs = {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": replies,
        "completion_mask": mask,
        "advantages": torch.linspace(-1, 1, n),
        "num_items_in_batch": mask.sum(),
    }
    return model, end, inputs


def autocast(setting: Setting, texts: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """`generate` with weights in FP32 and each forward pass under autocast, as accelerate wraps a model for TRL."""
    import torch

    model, end, inputs = prepared(setting, texts, torch.float32)
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    return {"rollouts": generated(setting, model, end, inputs, asked)}


def transformers(setting: Setting, texts: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """`generate` with weights of the type that is computed in, and the loss of a full log-softmax."""
    import torch

    model, end, inputs = prepared(setting, texts, dtype_of(asked))
    result: dict[str, Any] = {"rollouts": generated(setting, model, end, inputs, asked)}
    if "step" not in asked.parts:
        return result
    before, model = memory(), model.train()
    micro = 64 if setting.name == "laptop" else 16

    def step() -> None:
        model.zero_grad(set_to_none=True)
        for part in parts(inputs, micro):
            ids = torch.cat([part["prompt_ids"], part["completion_ids"]], 1)
            seen = torch.cat([part["prompt_mask"], part["completion_mask"]], 1)
            kept = part["completion_ids"].shape[1]
            logits = model(input_ids=ids, attention_mask=seen, logits_to_keep=kept + 1).logits[:, :-1].float()
            logprobs = logits.log_softmax(-1).gather(2, part["completion_ids"][..., None])[..., 0]
            ratio, mask = (logprobs - logprobs.detach()).exp(), part["completion_mask"]
            gain = part["advantages"][:, None]
            clipped = -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
            ((clipped * mask).sum(1) / mask.sum(1)).sum().div(len(inputs["advantages"])).backward()

    found = measured(step, asked)
    found["peak"] = peak() - before
    return result | {"step": found | {"texts_at_once": micro}}


def generated(setting: Setting, model: Any, end: int, inputs: dict[str, Any], asked: argparse.Namespace) -> Any:
    """What `generate` takes, called as TRL calls it."""
    import torch

    model.eval()
    tokens: list[int] = []

    def write() -> None:
        with torch.no_grad():
            out = model.generate(
                input_ids=inputs["prompt_ids"],
                attention_mask=inputs["prompt_mask"],
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=setting.max_tokens,
                pad_token_id=end,
                eos_token_id=end,
            )
        replies = out[:, inputs["prompt_ids"].shape[1] :]
        ended = (replies == end).cumsum(1)
        tokens.append(int(((ended == 0) | ((ended == 1) & (replies == end))).sum()))

    torch.manual_seed(0)
    found = measured(write, asked)
    return found | {"tokens_per_second": statistics.median(tokens[1:]) / found["seconds"]}


def trl(setting: Setting, texts: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The loss of TRL's own `GRPOTrainer` and its backward pass."""
    import torch
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from fathom.cli.find import model_folder

    model, _, inputs = prepared(setting, texts, dtype_of(asked))
    micro = 64 if setting.name == "laptop" else 16
    tokenizer = AutoTokenizer.from_pretrained(model_folder(setting.model))
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=micro,
            num_generations=setting.group,
            max_completion_length=setting.max_tokens,
            beta=0.0,
            loss_type="grpo",
            report_to="none",
        )
        trainer = GRPOTrainer(
            model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=config,
            train_dataset=Dataset(InMemoryTable.from_pydict({"prompt": ["one"] * 4}), fingerprint="unused"),
            processing_class=tokenizer,
        )
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        before = memory()

        def step() -> None:
            trainer.model.zero_grad(set_to_none=True)
            for part in parts(inputs, micro):
                trainer.compute_loss(trainer.model, part).backward()

        found = measured(step, asked)
    import trl as package

    found["peak"] = peak() - before
    return {"step": found | {"texts_at_once": micro}, "version": package.__version__, "torch": torch.__version__}


def parts(inputs: dict[str, Any], micro: int) -> list[dict[str, Any]]:
    """Few texts at a time, as they come."""
    n = len(inputs["advantages"])
    cut = [slice(begin, begin + micro) for begin in range(0, n, micro)]
    return [{name: value[s] if value.dim() else value for name, value in inputs.items()} for s in cut]


MEASURE = {"fathom": fathom, "transformers": transformers, "autocast": autocast, "trl": trl}


def dtype_of(asked: argparse.Namespace) -> Any:
    """What products are computed in."""
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[asked.dtype]


def memory() -> float:
    """Bytes this process holds now; the peak counts from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """Bytes this process held at most since `memory`."""
    return _status("VmHWM")


def _status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024.0 * int(line.split()[1])


def report(found: dict[str, dict[str, Any]], asked: argparse.Namespace) -> None:
    """Both tables, and the JSON."""
    machine = common.machine(asked.threads)
    rows, steps = [], []
    for setting, contenders in found.items():
        ours = contenders["fathom"]
        for name, its in contenders.items():
            if "error" in its:
                print(f"{setting}, {name}: {its['error']}", file=sys.stderr)
                continue
            if "rollouts" in its:
                rate = its["rollouts"]["tokens_per_second"]
                times = ours["rollouts"]["tokens_per_second"] / rate
                rows.append([setting, name, f"{rate:,.0f}", f"{times:.2f}x"])
            if "step" not in its:
                continue
            step = its["step"]
            slower = step["seconds"] / ours["step"]["seconds"]
            steps.append([setting, name, f"{step['seconds']:.2f}", f"{slower:.2f}x", f"{step['peak'] / 2**20:,.0f}"])
    common.show(f"Rollouts; {machine}", ["setting", "by", "tokens/s", "Fathom is"], rows)
    if steps:
        columns = ["setting", "by", "seconds", "of Fathom's", "MiB at peak"]
        common.show("Policy loss, forward and backward", columns, steps)
    facts = {"machine": machine, "dtype": asked.dtype, "found": found}
    print(common.write(f"reason_rollouts-{asked.dtype}-{asked.threads}", facts))


if __name__ == "__main__":
    main()
