"""Bits per byte count every token once, whatever the windows."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fathom.corpus.shards import TokenShards
from fathom.evaluate.bits_per_byte import bits_per_byte, windows
from fathom.evaluate.compressors import xz, xz_of_file
from fathom.model.transformer import Transformer
from fathom.parallel.mesh import World
from tiny_run import tiny_recipe

ALONE = World(torch.device("cpu"))


@given(st.integers(2, 300), st.integers(1, 40), st.data())
def test_every_token_but_the_first_is_predicted_once(tokens: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    cut = windows(tokens, context, stride)
    predicted = [
        target
        for start, first in zip(cut.starts.tolist(), cut.counted_from.tolist(), strict=True)
        for target in range(start + first + 1, start + cut.length + 1)
    ]
    assert predicted == list(range(1, tokens))


@given(st.integers(2, 300), st.integers(1, 40), st.data())
def test_predictions_see_at_least_what_the_stride_leaves(tokens: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    cut = windows(tokens, context, stride)
    assert all(first >= min(context, tokens - 1) - stride for first in cut.counted_from.tolist()[1:])


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(tiny_recipe().model)
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def test_the_figure_is_that_of_a_plain_pass(model: Transformer, corpus: Path) -> None:
    shards = TokenShards(corpus, "validation-english")
    row = torch.from_numpy(shards[:33])[None]
    with torch.no_grad():
        logits = model(row[:, :-1]).logits[0]
    expected = torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum").item()
    result = bits_per_byte(model, shards[:33], 100, ALONE, context=32, stride=32)
    assert result.nats == pytest.approx(expected, rel=1e-6)
    assert result.value == pytest.approx(expected / math.log(2) / 100, rel=1e-6)
    assert (result.tokens, result.loads.sum().item()) == (32, 32 * 2)


def test_the_batch_size_changes_nothing(model: Transformer, corpus: Path) -> None:
    shards = TokenShards(corpus, "validation-code")
    one, many = (
        bits_per_byte(model, shards, shards.text_bytes, ALONE, context=16, stride=5, batch_sequences=size)
        for size in (1, 7)
    )
    assert one.nats == pytest.approx(many.nats, rel=1e-6)
    assert one.tokens == many.tokens == len(shards) - 1


def test_processes_share_the_windows(model: Transformer, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "sum_", lambda world, tensor: tensor)
    shards = TokenShards(corpus, "validation-english")

    def nats(*worlds: World) -> float:
        return sum(
            bits_per_byte(model, shards, 1, world, context=32, stride=16, batch_sequences=4).nats for world in worlds
        )

    parts = [World(torch.device("cpu"), rank, 3) for rank in range(3)]
    assert nats(*parts) == pytest.approx(nats(ALONE), rel=1e-9)


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary(model: Transformer) -> None:
    uniform = Transformer(model.config)
    for parameter in uniform.parameters():
        torch.nn.init.zeros_(parameter)
    tokens = np.arange(65) % 512
    result = bits_per_byte(uniform, tokens, 64, ALONE, context=16, stride=16)
    assert result.value == pytest.approx(9.0, rel=1e-6)


def test_xz_shrinks_what_repeats(corpus: Path) -> None:
    assert xz(b"the same again " * 1000).bits_per_byte < 0.2
    text = xz_of_file(corpus / "validation-english.txt")
    assert text.text_bytes == (corpus / "validation-english.txt").stat().st_size
    assert 0.5 < text.bits_per_byte < 4.0
