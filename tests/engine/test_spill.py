"""What has been read survives a restart, and a disk that fails costs nothing but the reading."""

import errno
import logging
import os
import time

import pytest
import torch

from fathom.engine import fingerprint, spill
from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.sampling import SamplingParams
from fathom.errors import GenerationError

PROMPT = list(range(10, 42))
GREEDY = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)


def engine(model, folder, **changes):
    return Engine(model, config=EngineConfig(block_size=4, spill_folder=folder, **changes))


def complete(model, folder, prompt=PROMPT, **changes):
    """One completion by an engine that is then shut down."""
    with engine(model, folder, **changes) as own:
        return own.generate([prompt], GREEDY)[0]


def blocks(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def plain(model):
    return Engine(model).generate([PROMPT], GREEDY)[0].tokens


def test_a_second_engine_reads_only_what_the_first_has_not(model, tmp_path, plain):
    first, second = complete(model, tmp_path), complete(model, tmp_path)
    assert (first.cached_tokens, second.cached_tokens) == (0, 28)
    assert first.tokens == second.tokens == plain


def test_generated_tokens_are_kept_too(model, tmp_path, plain):
    complete(model, tmp_path)
    assert complete(model, tmp_path, [*PROMPT, *plain]).cached_tokens == 36


def test_nobody_but_the_owner_may_read_the_files(model, tmp_path):
    complete(model, tmp_path)
    assert {path.stat().st_mode & 0o777 for path in blocks(tmp_path)} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o700}


@pytest.mark.parametrize("what", ["cut", "changed", "empty", "swapped", "folder"])
def test_a_damaged_file_is_named_and_left_out(model, tmp_path, plain, what, caplog):
    complete(model, tmp_path)
    for path in blocks(tmp_path):
        content = bytearray(path.read_bytes())
        if what == "cut":
            path.write_bytes(content[:-5])
        elif what == "changed":
            content[-5] ^= 1
            path.write_bytes(content)
        elif what == "empty":
            path.write_bytes(b"")
        elif what == "swapped":
            path.write_bytes(blocks(tmp_path)[-1].read_bytes())
        else:
            path.unlink()
            path.mkdir()
    with caplog.at_level(logging.WARNING):
        again = complete(model, tmp_path)
    assert again.tokens == plain
    assert again.cached_tokens == 0 or what == "swapped"
    assert "is left out and removed" in caplog.text


def test_a_file_that_somebody_removed_is_read_again_without_a_word(model, tmp_path, plain, caplog):
    with engine(model, tmp_path) as own:
        own.generate([PROMPT], GREEDY)
    later = engine(model, tmp_path)
    assert later.core.spill is not None
    for path in blocks(tmp_path):
        path.unlink()
    assert later.generate([PROMPT], GREEDY)[0].tokens == plain
    later.close()
    assert caplog.text == ""


def test_a_full_disk_is_said_once_and_harms_nothing(model, tmp_path, plain, monkeypatch, caplog):
    with engine(model, tmp_path) as own:
        own.core  # noqa: B018  (opens the folder before the disk is full)
        monkeypatch.setattr(spill.os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        assert own.generate([PROMPT], GREEDY)[0].tokens == plain
    assert caplog.text.count("no blocks are kept for a minute") == 1
    assert not blocks(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_by_name(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GenerationError, match=r"spill_folder .*file cannot be written"):
        engine(model, tmp_path / "file").submit(PROMPT)


def test_the_longest_unused_blocks_make_room(model, tmp_path):
    complete(model, tmp_path)
    size = blocks(tmp_path)[0].stat().st_size
    for other in range(5):
        complete(model, tmp_path, [other + 1] * 32, spill_bytes=12 * size)
    assert len(blocks(tmp_path)) <= 12
    assert complete(model, tmp_path).cached_tokens == 0
    assert complete(model, tmp_path, [5] * 32).cached_tokens == 28


def test_other_weights_another_type_and_other_blocks_do_not_meet(model, tmp_path):
    complete(model, tmp_path)
    model.compute_dtype = torch.bfloat16
    try:
        assert complete(model, tmp_path).cached_tokens == 0
    finally:
        model.compute_dtype = torch.float32
    assert (
        Engine(model, config=EngineConfig(block_size=8, spill_folder=tmp_path)).generate([PROMPT])[0].cached_tokens == 0
    )
    weight = model.model.layers[0].self_attn.o_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.add_(0.01)
    try:
        assert complete(model, tmp_path).cached_tokens == 0
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert complete(model, tmp_path).cached_tokens == 28


def test_what_a_killed_process_left_half_written_is_cleared_away(model, tmp_path):
    complete(model, tmp_path)
    old, new = (blocks(tmp_path)[0].with_suffix(f".{pid}") for pid in (1, 2))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    complete(model, tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("count", [0, 1, 2, 256, 1000, 49_152 * 576, 2**40])
def test_a_models_name_looks_at_its_tensors_from_end_to_end(count):
    places = fingerprint.places(count).tolist()
    assert len(places) == len(set(places)) == min(count, fingerprint.SAMPLES)
    assert (places[0], places[-1]) == (0, count - 1) if places else count == 0
