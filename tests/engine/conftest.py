import pytest

from talkative import anything, few_words


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return few_words(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def model(tokenizer):
    return anything(tokenizer, max_position_embeddings=48, num_nextn_predict_layers=1)
