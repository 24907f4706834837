"""R1's stages on a base too small to be good: all of them, killed and taken up, and what was made by others."""

import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fathom.config.stages import R1Recipe
from fathom.errors import CheckpointError, RecipeError, TrainingError, UsageError
from fathom.reason.language import language_share
from fathom.reason.registry import TASKS, make_task
from fathom.reason.response import response_of
from fathom.reason.stage_texts import Choosy, write_readable, write_solved
from fathom.reason.stages import STAGES, UnwatchedStages, run_stages
from fathom.reason.stages_again import set_stages_aside
from fathom.reason.task import is_held_out
from fathom.reason.tasks.instructions import Instructions
from fathom.reason.tasks.inverse_in_words import InverseInWords
from fathom.reason.tasks.mixed import Mixed
from fathom.reports.stages import table_rows, write_stages_report


@dataclass(frozen=True)
class Lenient(InverseInWords):
    """Takes every second text for right, so that a tiny base's texts can be learned from."""

    steps: int = 1
    name: str = "lenient"

    def score(self, problem, text, finished=True):
        return replace(super().score(problem, text, finished), accuracy=float(len(text) % 2))

    def readable(self, text, language):
        return response_of("so x=1\n", "x=1")


RL = {
    "steps": 3,
    "problems": 2,
    "group_size": 4,
    "max_tokens": 8,
    "evaluate_every": 0,
    "evaluate_problems": 1,
    "checkpoint_every": 2,
}
SFT = {
    "checkpoint_every": 2,
    "epochs": 1,
    "batch_texts": 8,
    "evaluate_problems": 1,
    "evaluate_texts": 2,
    "max_tokens": 8,
}
TEXTS = {"problems": 12, "texts": 2, "max_tokens": 40, "only_right": False, "keep": 1}
VALUES = {
    "task": {"name": "lenient"},
    "general": {"name": "instructions"},
    "zero": RL,
    "dev1": {"texts": TEXTS, "sft": SFT},
    "dev2": RL | {"reward": {"accuracy": 1.0, "language": 1.0}},
    "dev3": {"texts": TEXTS, "least_language": 0.0, "general_texts": 8, "sft": SFT},
    "r1": RL | {"temperature": 0.7},
    "comparison": {"problems": 1, "texts": 2, "max_tokens": 8},
}


@pytest.fixture(scope="module", autouse=True)
def lenient():
    TASKS["lenient"] = Lenient
    yield
    del TASKS["lenient"]


def recipe_of(base, **changes):
    return R1Recipe.validated(VALUES | {"base": {"folder": str(base)}} | changes, "test")


def run(recipe, folder, **options):
    return run_stages(recipe, folder, precision=torch.float32, **options)


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "not there yet"
    return folder, run(recipe_of(base), folder)


def test_every_stage_has_a_model_and_a_column_in_the_table(whole, base):
    folder, result = whole
    assert result.finished
    assert result.model == folder / "r1" / "model"
    assert tuple(result.table) == STAGES
    assert json.loads((folder / "stages.json").read_text())["r1"].keys() == {
        "lenient en",
        "lenient zh",
        "instructions en",
        "instructions zh",
    }
    rows = table_rows(result.table)
    assert rows[0] == ["", "base", "Zero", "Dev1", "Dev2", "Dev3", "R1"]
    assert any(row[0] == "lenient zh: in the right language" for row in rows)
    page = write_stages_report(folder, recipe_of(base), result.table).read_text()
    assert "Dev2: reinforcement on reasoning" in page
    assert "倒过来说" in page or "说出" in page or "哪个是" in page or "把" in page


def test_the_fine_tuning_stages_start_from_the_base_and_the_others_from_the_stage_before(whole, base):
    folder, _ = whole
    for stage, start in {"dev2": folder / "dev1" / "model", "r1": folder / "dev3" / "model"}.items():
        assert (folder / stage / "model/model.safetensors").read_bytes() != (start / "model.safetensors").read_bytes()
    learned = [json.loads(line) for line in (folder / "dev1/readable.jsonl").read_text().splitlines()]
    assert {record["reply"] for record in learned} == {response_of("so x=1\n", "x=1")}
    general = [json.loads(line) for line in (folder / "dev3/general.jsonl").read_text().splitlines()]
    assert len(general) == 8
    assert Counter(record["reply"].startswith("</think>") for record in general) == {True: 8}


class Killing(UnwatchedStages):
    """Ends the run without warning at its third step, or when the first texts are ready."""

    class KilledError(Exception):
        pass

    def __init__(self, at_texts):
        self._left, self._at_texts = 3, at_texts

    def on_step(self, record):
        self._left -= 1
        if not self._left:
            raise self.KilledError

    def on_texts(self, stage, counts):
        if self._at_texts:
            raise self.KilledError


def test_killed_in_every_stage_it_goes_on_to_the_same_models(whole, base, tmp_path):
    folder, result = whole
    kills = 0
    while True:
        try:
            again = run(recipe_of(base), tmp_path, watcher=Killing(at_texts=kills == 1))
            break
        except Killing.KilledError:
            kills += 1
            assert kills < 12
    assert kills >= 4
    assert again.table == result.table
    for stage in STAGES[1:]:
        mine, theirs = (load_file(place / stage / "model/model.safetensors") for place in (tmp_path, folder))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs), stage


def test_asked_to_stop_it_says_in_which_stage_and_goes_on(base, tmp_path):
    asked = iter([False] * 5)
    first = run(recipe_of(base), tmp_path, stop=lambda: next(asked, True))
    assert not first.finished
    assert first.stage in ("zero", "dev1")
    assert run(recipe_of(base), tmp_path).finished


def test_a_stage_that_another_recipe_began_is_refused_and_can_be_begun_anew(whole, base, tmp_path):
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "copy")
    other = recipe_of(base, dev2=VALUES["dev2"] | {"seed": 9})
    with pytest.raises(CheckpointError, match="dev2"):
        run(other, tmp_path / "copy")
    moved = set_stages_aside(tmp_path / "copy", "dev2")
    assert [place.name for place in moved] == ["dev2-before-1", "dev3-before-1", "r1-before-1"]
    assert run(other, tmp_path / "copy").finished
    with pytest.raises(UsageError, match="dev4"):
        set_stages_aside(tmp_path, "dev4")


def test_a_stage_whose_model_is_missing_is_made_again_the_same(whole, base, tmp_path):
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "copy")
    for stage in ("zero", "dev1"):
        shutil.rmtree(tmp_path / "copy" / stage)
    assert run(recipe_of(base), tmp_path / "copy").finished
    mine, theirs = ((place / "r1/model/model.safetensors").read_bytes() for place in (tmp_path / "copy", folder))
    assert mine == theirs


def test_a_reward_that_is_constant_moves_nothing_and_ends(base, tmp_path):
    flat = RL | {"reward": {"accuracy": 0.0}}
    assert run(recipe_of(base, zero=flat), tmp_path).finished
    lines = [json.loads(line) for line in (tmp_path / "zero/metrics.jsonl").read_text().splitlines()]
    assert all(line["zero_variance"] == 1 for line in lines)
    before, after = (load_file(place / "model.safetensors") for place in (base, tmp_path / "zero/model"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_right_to_learn_from_is_said_and_zero_is_kept(base, tmp_path):
    strict = VALUES["dev1"] | {"texts": TEXTS | {"only_right": True}}
    hard = recipe_of(base, task={"name": "inverse_in_words"}, dev1=strict)
    with pytest.raises(TrainingError, match="none of"):
        run(hard, tmp_path)
    assert (tmp_path / "zero/model/model.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"general": {"name": "sorting"}}, "sorting"),
        ({"task": {"name": "inverse"}}, "inverse"),
        ({"dev1": {"texts": {"policy": "dev2"}}}, "dev1.texts.policy"),
        ({"dev4": {}}, "dev4"),
        ({"general_share": 1.0}, "general_share"),
    ],
)
def test_an_impossible_recipe_is_refused(changes, complaint, base, tmp_path):
    with pytest.raises(RecipeError, match=complaint):
        run(recipe_of(base, **changes), tmp_path)


# -- the tasks of the stages

WORDS = InverseInWords()


@given(st.integers(0, 10**6))
def test_a_search_in_words_is_right_and_its_readable_form_too(seed):
    rng = random.Random(seed)
    problem = WORDS.sample(rng)
    text = WORDS.searching(problem, rng)
    score = WORDS.score(problem, text)
    assert (score.accuracy, score.format) == (1, 1)
    assert score.counts["steps"] == score.counts["steps_right"] > 0
    assert score.counts["checks"] == score.counts["checks_right"] == score.counts["attempts"]
    readable = WORDS.readable(text, problem.language)
    again = WORDS.score(problem, readable)
    assert (again.accuracy, again.language, again.counts["readable"]) == (1, 1, 1)
    assert again.counts["checks_right"] == score.counts["checks_right"]
    assert WORDS.readable(readable, problem.language) == readable


def test_a_base_reads_replies_that_mix_languages_and_replies_that_do_not():
    rng = random.Random(1)
    shares = []
    for _ in range(400):
        problem = WORDS.sample(rng)
        shares.append(WORDS.score(problem, WORDS.searching(problem, rng)).language)
    assert 0.4 < sum(share == 1 for share in shares) / 400 < 0.7
    assert 0.65 < sum(shares) / 400 < 0.85


@pytest.mark.parametrize(
    "text",
    [
        "try x=1:2\n</think>\n<answer>x=1</answer>",
        "hmm\n</think>\n<answer>x=1</answer>",
        "try x=1:2-2=0 yes\n</think>\n<answer>x=3</answer>",
        "try x=1:2-2=0 yes\n</think>\nx=1",
        "</think>\n<answer>x=1</answer>",
        "",
    ],
)
def test_what_is_no_search_has_no_readable_form(text):
    assert WORDS.readable(text, "en") is None


def test_instructions_are_answered_by_their_helpful_reply_alone():
    task, rng = Instructions(), random.Random(3)
    careless = []
    for _ in range(300):
        problem = task.sample(rng)
        helpful = task.score(problem, task.searching(problem, rng))
        assert (helpful.accuracy, helpful.format, helpful.language) == (1, 1, 1)
        careless.append(task.score(problem, task.direct(problem, rng)))
        assert task.score(problem, response_of("", problem.answer + " cat")).accuracy == 0
    assert 0.3 < sum(score.accuracy for score in careless) / 300 < 0.6
    assert 0.6 < sum(score.format for score in careless) / 300 < 0.8


def test_mixed_problems_are_scored_by_their_own_task():
    mixed, rng, seen = Mixed((WORDS, Instructions()), (0.5, 0.5)), random.Random(4), Counter()
    for _ in range(200):
        problem = mixed.sample(rng)
        task = mixed.part(problem)
        seen[task.name] += 1
        assert mixed.score(problem, mixed.searching(problem, rng)).accuracy == 1
        assert problem.key.startswith(("inverse", "instructions"))
    assert min(seen.values()) > 70


def test_mixed_languages_and_wrong_steps_are_not_learned():
    choosy = Choosy(WORDS, least_language=1.0)
    problem = make_task("inverse_in_words", languages=("en",)).sample(random.Random(5))
    rng = random.Random(6)
    text = InverseInWords(mixing=0).searching(problem, rng)
    assert choosy.score(problem, text).accuracy == 1
    assert choosy.score(problem, text.replace("try", "试", 1)).accuracy == 0
    assert Choosy(WORDS).score(problem, text.replace("try", "试", 1)).accuracy == 1


def test_texts_are_written_in_the_languages_of_their_problems(tmp_path):
    rng, lines = random.Random(7), []
    for _ in range(40):
        problem = WORDS.sample(rng)
        lines.append({"prompt": problem.prompt, "reply": WORDS.searching(problem, rng), "language": problem.language})
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = write_readable(WORDS, tmp_path / "texts.jsonl", tmp_path / "readable.jsonl")
    assert counts["en"] + counts["zh"] == 40
    for line in (tmp_path / "readable.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert language_share(record["reply"].partition("</think>")[0], record["language"]) == 1


def test_general_texts_hold_no_held_out_problem(tmp_path):
    write_solved(Instructions(), 100, 1, tmp_path / "general.jsonl")
    prompts = {json.loads(line)["prompt"] for line in (tmp_path / "general.jsonl").read_text().splitlines()}
    rng = random.Random(8)
    held = [problem for _ in range(500) if is_held_out(problem := Instructions().sample(rng))]
    assert held
    assert not prompts & {problem.prompt for problem in held}
