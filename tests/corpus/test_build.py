import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathom.config.corpus import CorpusConfig, FolderSource
from fathom.corpus import packing
from fathom.corpus.manifest import Manifest
from fathom.corpus.shards import TokenShards
from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import CorpusError

Config = Callable[..., CorpusConfig]
Build = Callable[[CorpusConfig, Path], Manifest]
GROUPS = ["english", "chinese", "code"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def documents_of(shards: TokenShards) -> list[list[int]]:
    """Tokens between separators."""
    tokens = shards[0 : len(shards)]
    pieces = np.split(tokens, np.flatnonzero(tokens == shards.manifest.eos_id) + 1)
    return [piece[:-1].tolist() for piece in pieces if len(piece) > 1]


def test_all_the_text_is_there_once_on_one_side_or_the_other(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    manifest = build(config_of(texts, fim_rate=0), tmp_path / "corpus")
    tokenizer = Tokenizer(tmp_path / "corpus")
    train = {tokenizer.decode(ids) for ids in documents_of(TokenShards(tmp_path / "corpus", "train"))}
    held = {
        tokenizer.decode(ids)
        for group in GROUPS
        for ids in documents_of(TokenShards(tmp_path / "corpus", f"validation-{group}"))
    }
    assert train.isdisjoint(held)
    assert sum(len(text.encode()) for text in train) == manifest.split("train").text_bytes
    assert {path.read_text().strip() for path in texts.iterdir()} == {text.strip() for text in train | held}


def test_held_out_tokens_are_the_held_out_text_to_the_byte(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    manifest = build(config_of(texts, fim_rate=1.0), tmp_path / "corpus")
    assert manifest.validation_groups == GROUPS
    tokenizer = Tokenizer(tmp_path / "corpus")
    for group in GROUPS:
        shards = TokenShards(tmp_path / "corpus", f"validation-{group}")
        text = (tmp_path / "corpus" / f"validation-{group}.txt").read_bytes()
        tokens = shards[0 : len(shards)]
        assert tokenizer.decode_bytes(tokens.tolist()) == text
        assert shards.text_bytes == len(text) > 0
        assert tokens[0] == tokens[-1] == tokenizer.eos_id
        assert (tokens == tokenizer.eos_id).sum() == manifest.split(f"validation-{group}").documents + 1


def test_rearranged_documents_carry_their_marks_in_deepseeks_order(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    build(config_of(texts, fim_rate=0.5), tmp_path / "corpus")
    tokenizer = Tokenizer(tmp_path / "corpus")
    marks = [tokenizer.fim_begin_id, tokenizer.fim_hole_id, tokenizer.fim_end_id]
    documents = documents_of(TokenShards(tmp_path / "corpus", "train"))
    rearranged = [ids for ids in documents if ids[0] == marks[0]]
    assert 0.3 < len(rearranged) / len(documents) < 0.7
    sources = {path.read_text().strip() for path in texts.iterdir()}
    for ids in rearranged:
        places = [ids.index(mark) for mark in marks]
        assert places == sorted(places)
        prefix, suffix = ids[1 : places[1]], ids[places[1] + 1 : places[2]]
        middle = ids[places[2] + 1 :]
        assert b"".join(map(tokenizer.decode_bytes, (prefix, middle, suffix))).decode().strip() in sources


def test_the_same_configuration_gives_the_same_bytes(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    build(config_of(texts), tmp_path / "one")
    build(config_of(texts), tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_running_again_does_nothing_and_a_change_redoes_only_what_it_touches(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    first = build(config_of(texts), tmp_path / "corpus")
    assert build(config_of(texts), tmp_path / "corpus") == first
    assert build.said == []  # type: ignore[attr-defined]
    second = build(config_of(texts, vocab_size=700), tmp_path / "corpus")
    said = "\n".join(build.said)  # type: ignore[attr-defined]
    assert "tokenizer is made again (vocab_size is now 700, was 600)" in said
    assert "tokens is made again" in said
    assert "select" not in said
    assert "collect" not in said
    assert second.vocab_size == 700
    assert Tokenizer(tmp_path / "corpus").vocab_size == 700


def test_a_changed_file_is_noticed(texts: Path, config_of: Config, build: Build, tmp_path: Path) -> None:
    build(config_of(texts), tmp_path / "corpus")
    (texts / "story-0.txt").write_text("Another story altogether, and a longer one than before.")
    build(config_of(texts), tmp_path / "corpus")
    assert any("files changed" in line for line in build.said)  # type: ignore[attr-defined]


@pytest.mark.parametrize("shards_before", [0, 1, 2])
def test_killed_while_packing_and_run_again_it_goes_on_to_the_same_bytes(
    texts: Path, config_of: Config, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_before: int
) -> None:
    build(config_of(texts), tmp_path / "whole")
    original, packed = packing.describe_file, []

    def stop_after_some(path: Path) -> object:
        if path.name.startswith("train-"):
            packed.append(path.name)
            if len(packed) > shards_before:
                raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(packing, "describe_file", stop_after_some)
    with pytest.raises(KeyboardInterrupt):
        build(config_of(texts), tmp_path / "corpus")
    assert not (tmp_path / "corpus" / "manifest.json").exists()
    monkeypatch.setattr(packing, "describe_file", original)
    build(config_of(texts), tmp_path / "corpus")
    assert [line.split()[1] for line in build.said] == ["tokens"]  # type: ignore[attr-defined]
    assert contents(tmp_path / "corpus") == contents(tmp_path / "whole")
    assert len(Manifest.load(tmp_path / "corpus").split("train").files) > 2


@pytest.mark.parametrize("stage", ["collect", "select", "make_tokenizer", "pack", "_publish"])
def test_killed_in_any_stage_and_run_again_it_gives_the_same_bytes(
    texts: Path, config_of: Config, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    build(config_of(texts), tmp_path / "whole")

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"fathom.corpus.build.{stage}", killed)
        with pytest.raises(KeyboardInterrupt):
            build(config_of(texts), tmp_path / "corpus")
    build(config_of(texts), tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == contents(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["select", "make_tokenizer", "pack", "os.link"])
def test_a_full_disk_leaves_the_corpus_that_was_there(
    texts: Path, config_of: Config, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    build(config_of(texts), tmp_path / "corpus")
    before = contents(tmp_path / "corpus")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"fathom.corpus.build.{stage}", full)
        patch.setattr("fathom.corpus.build.shutil.copyfile", full)
        with pytest.raises(CorpusError, match="the disk is full"):
            build(config_of(texts, vocab_size=700, seed=5, validation_bytes=3000), tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == before
    assert len(TokenShards(tmp_path / "corpus", "train")) > 0


@pytest.mark.parametrize("damage", ["truncated", "changed", "removed"])
def test_a_damaged_shard_is_detected_and_made_again(
    texts: Path, config_of: Config, build: Build, tmp_path: Path, damage: str
) -> None:
    build(config_of(texts), tmp_path / "corpus")
    whole = contents(tmp_path / "corpus")
    shard = tmp_path / "corpus" / "train-00001.bin"
    content = shard.read_bytes()
    shard.unlink()
    if damage != "removed":
        shard.write_bytes(content[:-2] if damage == "truncated" else content[:-2] + b"\0\0")
    complaint = {"truncated": "is truncated", "changed": "has changed", "removed": "is missing"}[damage]
    with pytest.raises(CorpusError, match=rf"train-00001\.bin {complaint}.*build the corpus again"):
        TokenShards(tmp_path / "corpus", "train")
    build(config_of(texts), tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == whole


def test_shards_read_as_one_row_of_tokens(texts: Path, config_of: Config, build: Build, tmp_path: Path) -> None:
    build(config_of(texts), tmp_path / "corpus")
    shards = TokenShards(tmp_path / "corpus", "train")
    entry = shards.manifest.split("train")
    raw = b"".join((tmp_path / "corpus" / file.name).read_bytes() for file in entry.files)
    row = np.frombuffer(raw, dtype="<u2").astype(np.int64)
    assert len(entry.files) > 2
    assert np.array_equal(shards[0 : len(shards)], row)
    for start, stop in ((0, 1), (8190, 8200), (5000, 30_000), (len(row) - 3, len(row) + 3), (7, 7)):
        assert np.array_equal(shards[start:stop], row[start:stop])
    assert row.max() < shards.vocab_size


def test_a_split_that_is_not_there_is_named(texts: Path, config_of: Config, build: Build, tmp_path: Path) -> None:
    build(config_of(texts), tmp_path / "corpus")
    with pytest.raises(CorpusError, match="no split 'validation-french'; it has train, validation-chinese"):
        TokenShards(tmp_path / "corpus", "validation-french")


def test_a_tokenizer_that_does_not_belong_to_the_shards_is_detected(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    build(config_of(texts), tmp_path / "corpus")
    build(config_of(texts, vocab_size=700), tmp_path / "other")
    (tmp_path / "corpus" / "tokenizer.json").unlink()
    (tmp_path / "corpus" / "tokenizer.json").write_bytes((tmp_path / "other" / "tokenizer.json").read_bytes())
    with pytest.raises(CorpusError, match=r"tokenizer\.json is longer than it was"):
        TokenShards(tmp_path / "corpus", "train")


def test_a_trained_tokenizer_serves_another_corpus(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    build(config_of(texts), tmp_path / "one")
    second = build(config_of(texts, tokenizer=str(tmp_path / "one"), seed=3), tmp_path / "two")
    assert second.vocab_size == 600
    names = ("tokenizer.json", "tokenizer_config.json")
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_duplicates_go_and_are_counted(texts: Path, config_of: Config, build: Build, tmp_path: Path) -> None:
    story = (texts / "story-3.txt").read_text()
    (texts / "zz-copy.txt").write_text(story.upper())
    (texts / "zz-near-copy.txt").write_text(story + "One more line.\n")
    manifest = build(config_of(texts), tmp_path / "corpus")
    assert manifest.dropped["duplicate documents"] == 1
    assert manifest.dropped["near-duplicate documents"] == 1
    assert sum(split.documents for split in manifest.splits.values()) == 120


def test_epochs_repeat_training_documents_and_never_held_out_ones(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    once = build(config_of(texts), tmp_path / "once")
    source = FolderSource(path=texts, epochs=2.5)
    more = build(config_of(texts, sources=(source,)), tmp_path / "more")
    ratio = more.split("train").documents / once.split("train").documents
    assert 2.3 < ratio < 2.7
    assert more.split("validation-english") == once.split("validation-english")


def test_another_seed_gives_another_order_of_the_same_documents(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    orders = []
    for seed in (0, 1):
        build(config_of(texts, seed=seed, fim_rate=0), tmp_path / f"{seed}")
        orders.append([tuple(ids) for ids in documents_of(TokenShards(tmp_path / f"{seed}", "train"))])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_an_empty_corpus_is_refused(config_of: Config, build: Build, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "blank.txt").write_text(" \n\n\t\n")
    with pytest.raises(CorpusError, match="the corpus is empty"):
        build(config_of(tmp_path / "texts"), tmp_path / "corpus")


def test_two_sources_of_the_same_name_are_refused(texts: Path, config_of: Config, build: Build, tmp_path: Path) -> None:
    twice = (FolderSource(path=texts), FolderSource(path=texts))
    with pytest.raises(CorpusError, match="two sources are called 'folder-texts'"):
        build(config_of(texts, sources=twice), tmp_path / "corpus")


def test_the_same_corpus_is_not_built_twice_at_once(
    texts: Path, config_of: Config, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*arguments: object) -> None:
        build(config_of(texts), tmp_path / "corpus")

    monkeypatch.setattr("fathom.corpus.build.select", meanwhile)
    with pytest.raises(CorpusError, match="another process is building"):
        build(config_of(texts), tmp_path / "corpus")


def test_the_manifest_names_sources_licences_and_sizes(
    texts: Path, config_of: Config, build: Build, tmp_path: Path
) -> None:
    manifest = build(config_of(texts), tmp_path / "corpus")
    assert Manifest.load(tmp_path / "corpus") == manifest
    (source,) = manifest.sources
    assert (source.name, source.licence) == ("folder-texts", "CC0-1.0")
    assert source.text_bytes == sum(split.text_bytes for split in manifest.splits.values())
    train = manifest.split("train")
    assert list(manifest.groups) == GROUPS
    assert sum(group["tokens"] for group in manifest.groups.values()) == train.tokens
    manifest.verify(tmp_path / "corpus")


def test_a_folder_that_holds_no_corpus_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no finished corpus \(manifest\.json is missing\).*fathom corpus"):
        Manifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(CorpusError, match="not a manifest of this version"):
        Manifest.load(tmp_path)
