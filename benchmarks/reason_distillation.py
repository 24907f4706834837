"""Does distillation beat reinforcement for a small student? Three ways from one student's base, at equal compute.

    python benchmarks/reason_distillation.py [--teacher runs/r1-zero-laptop] [--seeds 3] [--runs FOLDER]

- texts:   cross-entropy on texts that the teacher wrote and that are right (R1's way for its distilled models).
- judged:  the teacher judges the student's own texts: on-policy, reverse KL at the tokens drawn.
- rewards: no teacher: reinforcement straight on the student's base, by recipes/r1-zero-laptop.toml's `[rl]`.

Compute is FLOP of matrix products and attention: a forward pass for every token written or judged, by whom it is
written or judged, three of them for a token trained on. The reinforcement comes first; what it took is what the others
are given. A third of the budget of `texts` goes to the teacher who writes them. The first seed tries each way with
every rate of `--rates`; the best is taken for the others. Every run is resumed where it was left, finished ones are
read.
"""

import argparse
import json
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import common

ONE_WAY = 1 / 3
"""Share of a training token's work that is the forward pass."""
TAUGHT = 1 / 3
"""Share of the budget of `texts` in which the teacher writes."""
WAYS = ("rewards", "texts", "judged")
SHOWN = ("accuracy", "length", "checked", "steps_right", "checks_right", "truncated")


@dataclass(frozen=True)
class Outcome:
    """What one way reached with one seed and rate."""

    way: str
    seed: int
    rate: float
    steps: int
    flop: float
    seconds: float
    """In texts and updates, judging left out, on a machine that others may use too."""
    final: dict[str, Any]
    curve: list[tuple[float, float]]
    """pass@1 on held-out problems by FLOP so far."""


class Comparison:
    """Teacher, student and where everything lies."""

    def __init__(self, asked: argparse.Namespace) -> None:
        from fathom.cli.find import model_folder
        from fathom.config.reason import ReasonRecipe
        from fathom.config.tuning import DistillRecipe
        from fathom.reason.registry import make_task

        self.asked, self.runs = asked, asked.runs
        self.teacher = model_folder(asked.teacher)
        self.recipe = DistillRecipe.load(Path(asked.recipe))
        self.zero = ReasonRecipe.load(Path(asked.zero))
        self.task = make_task(self.recipe.task.name, **self.recipe.task.options)

    @cached_property
    def student(self) -> Path:
        """The student's base, pre-trained here unless it is given."""
        from fathom.cli.find import model_folder
        from fathom.cli.lines import Lines
        from fathom.reason.base import build_base
        from fathom.reason.distill import refuse_other_tokenizers

        folder = model_folder(self.asked.student) if self.asked.student else None
        folder = folder or build_base(self.recipe.base, self.task, self.runs / "base", observer=Lines())
        assert folder is not None
        refuse_other_tokenizers(self.teacher, folder)
        return folder

    @cached_property
    def prompt_length(self) -> float:
        """Mean tokens of a prompt."""
        from fathom.corpus.tokenizer import Tokenizer
        from fathom.engine.prompt import encode_text

        rng, tokenizer = random.Random(0), Tokenizer(self.student)
        return statistics.mean(len(encode_text(tokenizer, self.task.sample(rng).prompt)) for _ in range(200))

    def work(self, folder: Path) -> float:
        """FLOP of one training token of the model in `folder`, in texts as long as the teacher's."""
        from fathom.config.model import ModelConfig
        from fathom.model.count import count

        config = ModelConfig.from_hf(json.loads((folder / "config.json").read_text()))
        return count(config, round(self.prompt_length + self.taught["length"])).training_flop_per_token

    @cached_property
    def mine(self) -> float:
        """FLOP of one training token of the student."""
        return self.work(self.student)

    @cached_property
    def theirs(self) -> float:
        """FLOP of one training token of the teacher."""
        return self.work(self.teacher)

    @cached_property
    def taught(self) -> dict[str, Any]:
        """The teacher on held-out problems."""
        return self.on_held_out("teacher", self.teacher)

    def on_held_out(self, name: str, folder: Path, *, forced: bool = False) -> dict[str, Any]:
        """A model on held-out problems, 16 texts each; kept, so that it is asked once."""
        kept = self.runs / f"judged-{name}.json"
        if not kept.exists():
            from fathom.cli.loading import load_engine
            from fathom.engine.config import EngineConfig
            from fathom.reason.judging import judge, judge_forced, lines, ready_for_rl
            from fathom.reason.rollouts import Sampling

            how = Sampling(16, self.zero.rl.max_tokens)
            with load_engine(folder, EngineConfig(max_batch_size=256)) as engine:
                ask: Any = judge_forced if forced else judge
                found = ask(engine, engine.tokenizer, self.task, how, self.asked.problems)
            facts = {"pass_at": found.pass_at, **found.values, "gate": lines(ready_for_rl(found))}
            self.runs.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(facts))
        facts = json.loads(kept.read_text())
        return {"name": name, **facts}

    # -- the three ways

    def run(self, way: str, seed: int, rate: float, budget: float) -> Outcome:
        """Train one way, or go on with it; `budget` FLOP, which `rewards` does not heed."""
        folder = self.runs / f"{way}-seed{seed}-rate{rate:g}"
        extra = getattr(self, way)(folder, seed, rate, budget)
        return self.outcome(way, seed, rate, folder, extra)

    def rewards(self, folder: Path, seed: int, rate: float, budget: float) -> float:
        """Reinforce the student's base."""
        from fathom.config.reason import ReasonRecipe
        from fathom.reason.zero import reinforce

        steps = self.asked.steps
        how = self.zero.rl.model_dump() | {"steps": steps, "seed": seed, "evaluate_every": max(1, steps // 2)}
        how["evaluate_problems"] = self.asked.problems
        how["optimizer"] |= {"learning_rate": rate}
        values = {"task": self.recipe.task.model_dump(), "base": {"folder": self.student}, "rl": how}
        reinforce(ReasonRecipe.validated(values, "rewards"), self.task, self.student, folder, watcher=Said())
        return 0.0

    def texts(self, folder: Path, seed: int, rate: float, budget: float) -> float:
        """Let the teacher write for a third of the budget, learn its right texts in the rest; the writing's FLOP."""
        from fathom.cli.loading import load_engine
        from fathom.config.tuning import SampledConfig
        from fathom.corpus.tokenizer import Tokenizer
        from fathom.engine.config import EngineConfig
        from fathom.reason.pairs import read_pairs
        from fathom.reason.rejection import sample_texts

        a_text = ONE_WAY * self.theirs * self.taught["length"]
        problems = max(1, round(TAUGHT * budget / a_text / self.recipe.texts.texts))
        chosen = self.recipe.texts.model_dump() | {"policy": str(self.teacher), "problems": problems, "seed": seed}
        path = self.runs / f"texts-seed{seed}-{problems}.jsonl"
        with load_engine(self.teacher, EngineConfig(max_batch_size=256)) as engine:
            config = SampledConfig.validated(chosen, "[texts]")
            assert engine.tokenizer is not None
            found = sample_texts(engine, engine.tokenizer, self.task, config, path)
        pairs = read_pairs([path], Tokenizer(self.student), 512)
        length = statistics.mean(len(pair.reply) for pair in pairs)
        cut = found.counts["unfinished"]
        written = (found.counts["texts"] - cut) * length + cut * config.max_tokens
        taken = ONE_WAY * self.theirs * written
        a_step = self.recipe.distill.batch_texts * (self.prompt_length + length) * self.mine
        steps = max(1, round((budget - taken) / a_step))
        self.distilled(folder, [path], steps, rate, {"seed": seed})
        return taken

    def step_of_judged(self, texts: int) -> float:
        """FLOP of one step in which the student writes, the teacher judges and the student learns."""
        whole = self.prompt_length + self.taught["length"]
        return float(
            texts * (ONE_WAY * self.mine * self.taught["length"] + whole * (ONE_WAY * self.theirs + self.mine))
        )

    def distilled(self, folder: Path, files: list[Path], steps: int, rate: float, changes: dict[str, Any]) -> None:
        """One run of `fathom distill`'s trainer."""
        from fathom.config.tuning import DistillRecipe
        from fathom.reason.distill import distill
        from fathom.reason.trainer import Surroundings

        how = self.recipe.distill.model_dump() | {"steps": steps, "evaluate_every": max(1, steps // 2)} | changes
        how["evaluate_problems"] = self.asked.problems
        how["optimizer"] |= {"learning_rate": rate}
        values = self.recipe.model_dump() | {"base": {"folder": self.student}, "distill": how}
        around = Surroundings(Said())
        distill(
            DistillRecipe.validated(values, "distill"),
            self.task,
            self.teacher,
            files,
            self.student,
            folder,
            around=around,
        )

    def judged(self, folder: Path, seed: int, rate: float, budget: float) -> float:
        """Let the teacher judge what the student writes, in steps for the budget if texts are as long as its own."""
        config = self.recipe.distill
        steps = max(1, round(budget / self.step_of_judged(config.problems * config.group_size)))
        self.distilled(folder, [], steps, rate, {"cross_entropy": 0.0, "reverse_kl": 1.0, "seed": seed})
        return 0.0

    def outcome(self, way: str, seed: int, rate: float, folder: Path, extra: float) -> Outcome:
        """What the run in `folder` took and reached."""
        taken, seconds, at = extra, 0.0, {0: 0.0}
        steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for step in steps:
            written = {"rewards": step["tokens"], "judged": step.get("written_tokens", 0)}.get(way, 0)
            scored = step["trained_tokens"] if way == "judged" else 0
            taken += self.mine * (ONE_WAY * written + step["trained_tokens"]) + ONE_WAY * self.theirs * scored
            seconds += step.get("rollout_seconds", 0.0) + step["update_seconds"]
            at[step["step"]] = taken
        judgements = {
            int(step): values for step, values in json.loads((folder / "judgements.json").read_text()).items()
        }
        final = judgements[max(judgements)]
        kept = {name: final[name] for name in SHOWN} | {"pass_at": final["pass_at"]}
        curve = [(at[step], values["accuracy"]) for step, values in sorted(judgements.items())]
        return Outcome(way, seed, rate, steps[-1]["step"], taken, seconds, kept, curve)


class Said:
    """Tells a run's judgements on standard error."""

    def on_step(self, record: dict[str, Any]) -> None:
        """Say nothing: there are thousands."""

    def on_judgement(self, step: int, judgement: Any) -> None:
        """Print how held-out problems went."""
        values = judgement.values
        print(
            f"  step {step}: pass@1 {values['accuracy']:.3f}, {values['length']:.0f} tokens",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="r1-zero-laptop", help="a run of fathom zero, or a model folder")
    parser.add_argument("--student", help="its base; pre-trained by the recipe otherwise")
    parser.add_argument("--recipe", default="recipes/distill-laptop.toml")
    parser.add_argument("--zero", default="recipes/r1-zero-laptop.toml")
    parser.add_argument("--runs", type=Path, default=Path("runs/reason-distillation"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of the reinforcement")
    parser.add_argument("--problems", type=int, default=32, help="held-out problems of a judgement, 16 texts each")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3], help="tried with the first seed")
    parser.add_argument("--picture", type=Path, help="where to draw the curves as SVG")
    asked = parser.parse_args()

    from fathom.launch import prepare_process

    prepare_process()
    comparison = Comparison(asked)
    found: list[Outcome] = []
    budgets: dict[int, float] = {}
    for way in WAYS:
        rates = asked.rates
        for seed in range(1, asked.seeds + 1):
            for rate in rates:
                print(f"{way}, seed {seed}, rate {rate:g}", file=sys.stderr, flush=True)
                found.append(comparison.run(way, seed, rate, budgets.get(seed, 0.0)))
            if seed == 1:
                best = max(found[-len(rates) :], key=lambda one: one.final["accuracy"])
                rates = [best.rate]
            if way == "rewards":
                budgets[seed] = next(one.flop for one in found if (one.seed, one.rate) == (seed, rates[0]))
            report(comparison, found)
    if asked.picture:
        draw(asked.picture, comparison, found)


def chosen(found: list[Outcome], way: str) -> list[Outcome]:
    """The runs of a way at the rate that was best with the first seed."""
    mine = [one for one in found if one.way == way]
    tried = [one for one in mine if one.seed == 1]
    best = max(tried, key=lambda one: one.final["accuracy"], default=None)
    return [one for one in mine if best is not None and one.rate == best.rate]


def report(comparison: Comparison, found: list[Outcome]) -> None:
    """Print the table so far and write it as JSON."""
    import torch

    asked = comparison.asked
    fixed = [comparison.taught, comparison.on_held_out("student", comparison.student)]
    fixed.append(comparison.on_held_out("student-forced", comparison.student, forced=True))
    rows = [
        [one["name"], "", "", "", *(f"{one[n]:.3f}" for n in SHOWN), f"{one['pass_at']['16']:.3f}"] for one in fixed
    ]
    for way in WAYS:
        if mine := chosen(found, way):
            mean = {name: statistics.mean(one.final[name] for one in mine) for name in SHOWN}
            right = [one.final["accuracy"] for one in mine]
            cells = [f"{mean['accuracy']:.3f} ({min(right):.3f} - {max(right):.3f})"]
            cells += [f"{mean[name]:.3f}" for name in SHOWN[1:]]
            cells.append(f"{statistics.mean(one.final['pass_at']['16'] for one in mine):.3f}")
            about = [f"{way}, {len(mine)} seeds, rate {mine[0].rate:g}", str(mine[0].steps)]
            about.append(f"{statistics.mean(one.flop for one in mine) / 1e12:.2f}")
            about.append(f"{statistics.mean(one.seconds for one in mine):.0f}")
            rows.append([*about, *cells])
    columns = ["way", "steps", "TFLOP", "seconds", "pass@1", *SHOWN[1:], "pass@16"]
    machine = common.machine(torch.get_num_threads())
    common.show(f"Held-out problems; {machine}", columns, rows)
    work = {"student": comparison.mine, "teacher": comparison.theirs, "prompt_tokens": comparison.prompt_length}
    facts = {"machine": machine, "training_flop_a_token": work, "fixed": fixed, "runs": [asdict(one) for one in found]}
    facts["arguments"] = {name: str(value) for name, value in vars(asked).items()}
    print(common.write("reason_distillation", facts))


def draw(path: Path, comparison: Comparison, found: list[Outcome]) -> None:
    """The mean curve of each way over compute."""
    from fathom.reports.chart import Chart, Level, Series

    series = []
    for way, style in zip(WAYS, ("one", "two", "three"), strict=True):
        curves = [one.curve for one in chosen(found, way)]
        points = [
            (statistics.mean(flop for flop, _ in place) / 1e12, statistics.mean(right for _, right in place))
            for place in zip(*curves, strict=False)
        ]
        series.append(Series(way, points, style, dots=True))
    levels = [Level("teacher", comparison.taught["accuracy"], "four")]
    chart = Chart("Held-out pass@1 by compute", "TFLOP", "pass@1", series, levels, from_zero=True)
    path.write_text(chart.svg(), encoding="utf-8")


if __name__ == "__main__":
    begin = time.monotonic()
    main()
    print(f"({time.monotonic() - begin:.0f} s)", file=sys.stderr)
