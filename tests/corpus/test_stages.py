import errno
import json
from pathlib import Path
from typing import Any

import pytest

from fathom.corpus.manifest import check_sha256
from fathom.corpus.stages import Stages
from fathom.errors import CorpusError


class Worker:
    """Writes one file and counts how often it was asked to."""

    def __init__(self, content: str = "text") -> None:
        self.calls, self.content = 0, content

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.calls += 1
        (folder / "out.txt").write_text(self.content)
        return {"size": len(self.content)}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def stages(tmp_path: Path, said: list[str]) -> Stages:
    return Stages(tmp_path, said.append)


def test_a_finished_stage_is_used_again(stages: Stages) -> None:
    work = Worker()
    first = stages.run("tokens", {"seed": 0}, work)
    second = stages.run("tokens", {"seed": 0}, work)
    assert work.calls == 1
    assert first == second
    assert second.path("out.txt").read_text() == "text"


def test_a_changed_input_is_named_and_the_stage_made_again(stages: Stages, said: list[str]) -> None:
    stages.run("tokenizer", {"vocab_size": 8192, "earlier": "abc"}, Worker())
    work = Worker("other")
    stages.run("tokenizer", {"vocab_size": 4096, "earlier": "abc"}, work)
    assert work.calls == 1
    assert any("tokenizer is made again (vocab_size is now 4096, was 8192)" in line for line in said)


def test_a_changed_text_before_it_is_named(stages: Stages, said: list[str]) -> None:
    stages.run("tokens", {"earlier": "abc"}, Worker())
    stages.run("tokens", {"earlier": "xyz"}, Worker())
    assert any("the text before it changed" in line for line in said)


def test_a_truncated_file_makes_the_stage_anew(stages: Stages, said: list[str]) -> None:
    stage = stages.run("tokens", {}, Worker())
    stage.path("out.txt").write_text("te")
    work = Worker()
    assert stages.run("tokens", {}, work).path("out.txt").read_text() == "text"
    assert work.calls == 1
    assert any("truncated" in line for line in said)


def test_a_file_of_the_same_size_with_another_content_is_found_by_its_checksum(stages: Stages) -> None:
    stage = stages.run("tokens", {}, Worker(), check=check_sha256)
    stage.path("out.txt").write_text("TEXT")
    work = Worker()
    stages.run("tokens", {}, work, check=check_sha256)
    assert work.calls == 1


def test_an_interrupted_stage_finds_what_it_left_unless_its_inputs_changed(stages: Stages) -> None:
    found: list[bool] = []

    def interrupted(folder: Path) -> dict[str, Any]:
        found.append((folder / "half").exists())
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    for inputs in ({"seed": 0}, {"seed": 0}, {"seed": 1}):
        with pytest.raises(KeyboardInterrupt):
            stages.run("tokens", inputs, interrupted)
    assert found == [False, True, False]


def test_a_stage_that_fails_leaves_the_finished_one_before_it(stages: Stages, tmp_path: Path) -> None:
    stages.run("tokens", {"seed": 0}, Worker())

    def failing(folder: Path) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CorpusError, match=r"the disk is full.*untouched.*run the same command again"):
        stages.run("tokens", {"seed": 1}, failing)
    assert (tmp_path / "tokens" / "out.txt").read_text() == "text"


def test_a_damaged_record_is_as_if_there_were_none(stages: Stages, tmp_path: Path) -> None:
    stages.run("tokens", {}, Worker())
    (tmp_path / "tokens" / "stage.json").write_text("{")
    work = Worker()
    stages.run("tokens", {}, work)
    assert work.calls == 1


def test_the_digest_follows_the_result_and_not_the_inputs(stages: Stages) -> None:
    one = stages.run("a", {"seed": 0}, Worker())
    assert stages.run("b", {"seed": 1}, Worker()).digest == one.digest
    assert stages.run("c", {"seed": 0}, Worker("other")).digest != one.digest


def test_stages_of_sources_no_longer_asked_for_are_removed(stages: Stages, tmp_path: Path) -> None:
    for name in ("collect-old", "collect-new"):
        stages.run(name, {}, Worker())
    stages.keep_only({"collect-new"})
    assert [path.name for path in tmp_path.iterdir()] == ["collect-new"]
    assert json.loads((tmp_path / "collect-new" / "stage.json").read_text())["summary"] == {"size": 4}
