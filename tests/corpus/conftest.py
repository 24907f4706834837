"""Texts made here, so that no test needs a network or a file it did not write."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fathom.config.corpus import CorpusConfig, FolderSource
from fathom.corpus.build import build_corpus
from fathom.corpus.manifest import Manifest

ENGLISH = ["sea", "ship", "captain", "wind", "night", "morning", "house", "garden", "letter", "friend", "river", "bird"]
VERBS = ["saw", "heard", "followed", "carried", "opened", "forgot", "painted", "crossed", "left", "found", "sold"]
CHINESE = "山水风月花鸟人家春秋日夜江湖云雨青白红黄天地远近来去见闻思归酒诗书剑琴舟马城楼"


def english(seed: int, sentences: int = 30) -> str:
    """Paragraphs of nonsense that no other seed gives."""
    chance = random.Random(seed)
    lines = []
    for number in range(sentences):
        subject, thing = chance.choices(ENGLISH, k=2)
        end = "\n\n" if number % 5 == 4 else " "
        lines.append(f"The {subject} {chance.choice(VERBS)} the {thing} {chance.randrange(10_000)} times.{end}")
    return "".join(lines)


def chinese(seed: int, lines: int = 12) -> str:
    """Verse of nonsense."""
    chance = random.Random(seed)
    return "".join(
        "".join(chance.choices(CHINESE, k=7)) + "，" + "".join(chance.choices(CHINESE, k=7)) + "。\n"
        for _ in range(lines)
    )


def code(seed: int, functions: int = 8) -> str:
    """Small functions."""
    chance = random.Random(seed)
    return "\n\n".join(
        f"def {chance.choice(VERBS)}_{chance.randrange(10**6)}({chance.choice(ENGLISH)}):\n"
        f"    return {chance.choice(ENGLISH)!r} * {chance.randrange(100)}\n"
        for _ in range(functions)
    )


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of English, Chinese and code, 40 files each."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for seed in range(40):
        (folder / f"story-{seed}.txt").write_text(english(seed), encoding="utf-8")
        (folder / f"verse-{seed}.md").write_text(chinese(seed), encoding="utf-8")
        (folder / f"module_{seed}.py").write_text(code(seed), encoding="utf-8")
    return folder


@pytest.fixture
def config_of() -> Callable[..., CorpusConfig]:
    """A small configuration over a folder."""

    def make(folder: Path, **fields: object) -> CorpusConfig:
        source = FolderSource(path=folder, licence="CC0-1.0")
        small = {"vocab_size": 600, "document_bytes": 2048, "shard_tokens": 8192, "validation_bytes": 4000}
        return CorpusConfig.model_validate({"sources": (source,), **small, **fields})

    return make


@pytest.fixture
def build() -> Callable[..., Manifest]:
    """`build_corpus` that keeps what it says in `build.said`."""

    def run(config: CorpusConfig, folder: Path) -> Manifest:
        run.said = []  # type: ignore[attr-defined]
        return build_corpus(config, folder, say=run.said.append)  # type: ignore[attr-defined]

    return run
