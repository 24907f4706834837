"""A run may learn from another model's predictions in the place of the text's tokens."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fathom.errors import CorpusError, RecipeError
from fathom.model.transformer import Transformer
from fathom.parallel.mesh import World
from fathom.train.loop import train
from fathom.train.objective import Teacher, Weights, objective
from fathom.train.prepare import build_model, build_teacher, open_text
from tiny_run import tiny_recipe, weights

CPU = World(torch.device("cpu"))
ALONE = Weights(mtp=0.0, mtp_share=1.0, balance=0.0)


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train(tiny_recipe("train.steps=8"), tmp_path_factory.mktemp("run"), corpus=corpus).model
    assert folder is not None
    return folder


def steps(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_student_comes_nearer_to_its_teacher(finished: Path, corpus: Path, tmp_path: Path) -> None:
    train(tiny_recipe(f"train.teacher.folder={finished}"), tmp_path / "run", corpus=corpus)
    found = [step["teacher_kl"] for step in steps(tmp_path / "run")]
    assert found[-1] < 0.6 * found[0]


def test_what_is_frozen_stands_still(finished: Path, corpus: Path, tmp_path: Path) -> None:
    beginning = (f"train.initialise_from={finished}", "train.steps=3", 'train.only=[".mlp."]')
    train(tiny_recipe(f"train.teacher.folder={finished}", "train.teacher.share=0", *beginning), tmp_path, corpus=corpus)
    before, after = load_file(finished / "model.safetensors"), weights(tmp_path)
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert any(name.endswith(".down_proj.weight") for name in moved)
    assert all(".mlp." in name for name in moved)


def test_a_part_that_no_parameter_has_is_named() -> None:
    with pytest.raises(RecipeError, match=r"train\.only.*'\.ffn\.'"):
        build_model(tiny_recipe('train.only=[".mlp.", ".ffn."]'), CPU)


def test_a_run_without_a_teacher_tells_no_distance(finished: Path) -> None:
    assert all(step["teacher_kl"] is None for step in steps(finished.parent))


def test_its_own_teacher_teaches_nothing(finished: Path, corpus: Path) -> None:
    recipe = tiny_recipe(f"train.teacher.folder={finished}")
    teacher = build_teacher(recipe, open_text(recipe, corpus), CPU)
    assert teacher is not None
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    student = teacher.model.requires_grad_()
    terms = objective(student, rows(), ALONE, 4, Teacher(student, 1.0))
    terms.loss.backward()
    assert float(terms.sums[1]) == pytest.approx(0, abs=1e-4)
    assert max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None) < 1e-6


def test_a_share_of_the_text_is_that_share_of_the_gradient(finished: Path, corpus: Path) -> None:
    recipe = tiny_recipe(f"train.teacher.folder={finished}")
    teacher = build_teacher(recipe, open_text(recipe, corpus), CPU)
    assert teacher is not None
    student = Transformer(recipe.model)
    student.init_weights(torch.Generator().manual_seed(5))

    def gradient(who: Teacher | None) -> torch.Tensor:
        student.zero_grad()
        objective(student, rows(), ALONE, 4, who).loss.backward()
        assert student.model.embed_tokens.weight.grad is not None
        return student.model.embed_tokens.weight.grad.clone()

    half = 0.5 * (gradient(None) + gradient(Teacher(teacher.model, 1.0)))
    torch.testing.assert_close(gradient(Teacher(teacher.model, 0.5)), half, rtol=1e-4, atol=1e-7)


def rows() -> torch.Tensor:
    return torch.randint(0, 512, (4, 32 + 1 + 1), generator=torch.Generator().manual_seed(2))


def test_a_teacher_with_other_words_is_refused(finished: Path, corpus: Path, tmp_path: Path) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    file = other / "tokenizer.json"
    values = json.loads(file.read_text())
    values["added_tokens"][0]["content"] = "<|another|>"
    file.write_text(json.dumps(values))
    recipe = tiny_recipe(f"train.teacher.folder={other}")
    with pytest.raises(RecipeError, match=r"train\.teacher\.folder.*another tokenizer"):
        build_teacher(recipe, open_text(recipe, corpus), CPU)


def test_a_teacher_without_a_tokenizer_is_named(finished: Path, corpus: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(finished, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer.json"))
    recipe = tiny_recipe(f"train.teacher.folder={bare}")
    with pytest.raises(CorpusError, match="bare"):
        build_teacher(recipe, open_text(recipe, corpus), CPU)


def test_a_teacher_of_another_width_of_vocabulary_is_refused(finished: Path, corpus: Path) -> None:
    recipe = tiny_recipe(f"train.teacher.folder={finished}", "model.vocab_size=640")
    with pytest.raises(RecipeError, match=r"512 tokens.*640"):
        build_teacher(recipe, open_text(recipe, corpus), CPU)


def test_a_field_of_the_teacher_is_spelt_right_or_named() -> None:
    with pytest.raises(RecipeError, match="folder"):
        tiny_recipe("train.teacher.foler=here")
