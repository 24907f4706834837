import numpy as np
import pytest
import torch

from fathom.errors import GenerationError, WeightsError
from fathom.serve.embedder import Embedder, lower_part
from talkative import anything

TEXTS = ["the sea is deep", "the line is long and the sea is deep", "测量大海", "def depth(line):"]


@pytest.fixture(scope="module")
def embedder(tokenizer):
    return Embedder("tiny", anything(tokenizer, num_hidden_layers=5), tokenizer)


def test_every_vector_has_length_one(embedder):
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_text_has_the_same_vector_alone_and_among_longer_ones(embedder):
    together = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_many_texts_come_back_in_their_order(embedder):
    texts = [f"the line {'is long ' * (n % 7)}" for n in range(40)]
    np.testing.assert_allclose(embedder.embed(texts)[::3], embedder.embed(texts[::3]), atol=1e-5)


def test_the_upper_layers_are_dropped(tokenizer):
    model = lower_part(anything(tokenizer, num_hidden_layers=5))
    assert len(model.model.layers) == 2
    assert not hasattr(model, "lm_head")


def test_what_stands_after_the_used_layers_changes_nothing(tokenizer, embedder):
    model = anything(tokenizer, num_hidden_layers=5)
    with torch.no_grad():
        model.model.layers[3].mlp.shared_experts.down_proj.weight.zero_()
        model.model.norm.weight.mul_(7)
    np.testing.assert_array_equal(Embedder("other", model, tokenizer).embed(TEXTS), embedder.embed(TEXTS))


def test_a_text_that_is_too_long_is_read_from_its_beginning(embedder):
    words = embedder.encode(["sea " * 2000])[0]
    assert len(words) > embedder.longest
    np.testing.assert_allclose(
        embedder.embed(["sea " * 2000])[0], embedder.embed_tokens([words[: embedder.longest]]).vectors[0], atol=1e-5
    )


@pytest.mark.parametrize(("tokens", "word"), [([], "0 tokens"), ([1] * 5000, "5000 tokens"), ([99999], "99999")])
def test_what_cannot_be_read_is_refused(embedder, tokens, word):
    with pytest.raises(GenerationError, match=word):
        embedder.embed_tokens([[5], tokens])


def test_a_model_whose_states_are_no_numbers_is_refused_at_once(tokenizer):
    model = anything(tokenizer)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(float("nan"))
    with pytest.raises(WeightsError, match="broken gives vectors of NaN"):
        Embedder("broken", model, tokenizer)


def test_each_model_has_a_fingerprint_of_its_own(tokenizer, embedder):
    assert Embedder("same", anything(tokenizer, num_hidden_layers=5), tokenizer).maker == embedder.maker
    other = anything(tokenizer, num_hidden_layers=5)
    with torch.no_grad():
        other.model.embed_tokens.weight.mul_(1.01)
    assert Embedder("other", other, tokenizer).maker != embedder.maker
