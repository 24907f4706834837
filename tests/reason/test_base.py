"""A base is made phase by phase, of documents that say what they should."""

import json
import random
import shutil
from itertools import islice

import pytest

from fathom.config.reason import BaseConfig, DocumentsConfig, ReasonRecipe, RLConfig
from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import CheckpointError, RecipeError
from fathom.reason.base import build_base
from fathom.reason.documents import documents, write_documents
from fathom.reason.registry import make_task
from fathom.reason.task import is_held_out
from fathom.reason.tasks.inverse import Inverse
from fathom.weights.folder import load


def test_the_mix_has_the_shares_it_names_and_no_held_out_problem():
    task = Inverse()
    texts = list(islice(documents(task, DocumentsConfig(searching=0.3, facts=0.2), seed=1), 3000))
    facts = [text for text in texts if not text.startswith("User:")]
    searches = [text for text in texts if "=0\n</think>" in text]
    assert len(facts) / 3000 == pytest.approx(0.2, abs=0.03)
    assert len(searches) / (3000 - len(facts)) == pytest.approx(0.3, abs=0.04)
    rng, held = random.Random(2), set()
    while len(held) < 300:
        problem = task.sample(rng)
        if is_held_out(problem):
            held.add(problem.prompt)
    assert not any(text.startswith(tuple(held)) for text in texts)


def test_the_same_seed_writes_the_same_texts():
    mix = DocumentsConfig()
    first, again, other = (list(islice(documents(Inverse(), mix, seed), 50)) for seed in (1, 1, 2))
    assert first == again != other


def test_phases_share_a_tokenizer_in_which_a_digit_is_a_token_and_the_second_begins_with_the_first(base):
    first = base.parents[2] / "phase-1" / "run" / "model"
    assert Tokenizer(base).encode("x=5:8") == Tokenizer(first).encode("x=5:8")
    assert len(Tokenizer(base).encode("8,6,4-7=1")) == 9
    record = (base.parent / "recipe.toml").read_text()
    assert f'initialise_from = "{first}"' in record
    assert load(base).config == load(first).config


def test_made_again_it_is_found_ready(base, recipe, task):
    weights = (base / "model.safetensors").read_bytes()
    assert build_base(recipe.base, task, base.parents[2]) == base
    assert (base / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    "changed",
    [
        (Inverse(steps=2), {}, 1),
        (Inverse(languages=("en", "zh")), {}, 1),
        (Inverse(), {"facts": 0.2}, 1),
        (Inverse(), {}, 2),
    ],
)
def test_documents_of_another_task_mix_or_seed_are_not_taken_for_these(changed, tmp_path):
    path = tmp_path / "documents.jsonl"
    written = write_documents(Inverse(), DocumentsConfig(megabytes=0.001), 1, path).read_bytes()
    task, mix, seed = changed
    with pytest.raises(CheckpointError, match="another task, mix or seed"):
        write_documents(task, DocumentsConfig(megabytes=0.001, **mix), seed, path)
    assert path.read_bytes() == written
    assert write_documents(Inverse(), DocumentsConfig(megabytes=0.001), 1, path) == path


def test_documents_that_do_not_say_what_they_are_of_are_refused(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text('{"text": "old"}\n')
    with pytest.raises(CheckpointError, match=r"documents\.jsonl"):
        write_documents(Inverse(), DocumentsConfig(megabytes=0.001), 1, path)


def test_a_base_made_by_another_recipe_is_noticed(base, recipe, tmp_path):
    other = make_task("inverse", steps=2)
    folder = base.parents[2]
    with pytest.raises(CheckpointError, match="another task"):
        build_base(recipe.base, other, folder)
    shutil.copytree(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").glob("phase-*/documents.jsonl"):
        path.unlink()
    with pytest.raises(CheckpointError, match="the text"):
        build_base(recipe.base, other, tmp_path / "copy")


def test_a_phase_may_read_of_a_plainer_task_first(recipe, tmp_path):
    first, second = ({"documents": {"megabytes": 0.02}, "train": {"steps": 1}} for _ in range(2))
    phases = [first | {"task": {"name": "inverse", "options": {"steps": 1}}}, second]
    config = BaseConfig.validated(recipe.base.model_dump() | {"phases": phases}, "test")
    build_base(config, make_task("inverse_in_words", steps=1), tmp_path)
    assert "try" not in (tmp_path / "phase-1/documents.jsonl").read_text()
    assert "try" in (tmp_path / "phase-2/documents.jsonl").read_text()
    unable = BaseConfig.validated(
        recipe.base.model_dump() | {"phases": [first | {"task": {"name": "sorting"}}]}, "test"
    )
    with pytest.raises(RecipeError, match="sorting"):
        build_base(unable, make_task("inverse"), tmp_path / "other")


def test_asked_to_stop_it_says_so_and_goes_on_later(recipe, task, tmp_path, base):
    asked = iter([False] * 5 + [True] * 100)
    assert build_base(recipe.base, task, tmp_path, stop=lambda: next(asked)) is None
    again = build_base(recipe.base, task, tmp_path)
    assert again is not None
    assert (again / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "either a folder"),
        ({"folder": "x", "phases": [{}]}, "either a folder"),
        ({"phases": [{"documents": {"searching": 2}}]}, "searching"),
        ({"phases": [{"document": {}}]}, "unknown field"),
    ],
)
def test_an_impossible_base_is_refused(values, complaint):
    with pytest.raises(RecipeError, match=complaint):
        BaseConfig.validated(values, "test")


def test_the_published_recipe_has_the_published_numbers():
    rl = RLConfig.validated({"preset": "r1_zero"}, "test")
    assert (rl.problems, rl.group_size, rl.updates_a_rollout, rl.steps) == (32, 16, 16, 10_400)
    assert rl.problems * rl.group_size * rl.updates_a_rollout == 8192
    assert (rl.clip_low, rl.clip_high, rl.kl_coefficient, rl.reference_every) == (10, 10, 0.001, 400)
    assert rl.optimizer.learning_rate == 3e-6
    assert RLConfig.validated({"preset": "r1_zero", "steps": 16}, "test").steps == 16


def test_a_recipe_file_is_read_with_changes(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('[task]\nname = "inverse"\n[base]\nfolder = "somewhere"\n')
    assert ReasonRecipe.load(path, ["rl.steps=7", "rl.loss=gspo"]).rl.steps == 7
    with pytest.raises(RecipeError, match="losss"):
        ReasonRecipe.load(path, ["rl.losss=gspo"])
    assert json.loads(ReasonRecipe.load(path).model_dump_json())["rl"]["optimizer"]["learning_rate"] == 3e-4
