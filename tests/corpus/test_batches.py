import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.corpus.batches import TrainingBatches
from fathom.corpus.permutation import permuted
from fathom.errors import CorpusError, RecipeError


class Row:
    """Tokens 0, 1, 2, ...: each token names its own place."""

    def __init__(self, length: int) -> None:
        self._tokens = np.arange(length, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, place: slice) -> np.ndarray:
        return self._tokens[place]


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63), epoch=st.integers(0, 100))
def test_a_permutation_sends_every_place_to_another_one(size: int, seed: int, epoch: int) -> None:
    assert sorted(permuted(np.arange(size), size, seed, epoch)) == list(range(size))


def test_a_permutation_of_a_trillion_is_computed_for_the_asked_places_only() -> None:
    places = permuted(np.arange(1000), 10**12, 0)
    assert len(set(places.tolist())) == 1000
    assert 0.4e12 < places.mean() < 0.6e12


def test_neighbours_do_not_stay_neighbours() -> None:
    places = permuted(np.arange(10_000), 10_000, 1)
    assert np.mean(np.abs(np.diff(places)) == 1) < 0.01
    assert abs(np.corrcoef(np.arange(10_000), places)[0, 1]) < 0.05


def test_another_seed_or_epoch_gives_another_order() -> None:
    orders = [permuted(np.arange(50), 50, *seeds).tolist() for seeds in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len({tuple(order) for order in orders}) == 4


@settings(max_examples=50)
@given(length=st.integers(40, 900), sequence=st.integers(1, 16), extra=st.integers(0, 3), seed=st.integers(0, 99))
def test_every_token_is_an_input_once_an_epoch(length: int, sequence: int, extra: int, seed: int) -> None:
    batches = TrainingBatches(Row(length), sequence, extra, seed)
    for epoch in (0, 1):
        rows = batches.rows(np.arange(batches.sequences) + epoch * batches.sequences)
        inputs = np.sort(rows[:, :sequence].ravel())
        first = batches.epoch_shift(epoch)
        assert np.array_equal(inputs, np.arange(first, first + batches.sequences * sequence))
        assert length - 1 - extra - len(inputs) < sequence


def test_a_row_carries_its_targets_and_the_extra_ones() -> None:
    rows = TrainingBatches(Row(100), 8, 2, 0).batch(0, 5)
    assert rows.shape == (5, 11)
    assert (np.diff(rows) == 1).all()


@given(index=st.integers(0, 500), world=st.sampled_from([1, 2, 4]))
def test_ranks_together_hold_the_batch_of_one_process(index: int, world: int) -> None:
    batches = TrainingBatches(Row(1000), 16, 1, 3)
    parts = [batches.batch(index, 8, rank, world) for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), batches.batch(index, 8))


def test_batches_of_any_size_walk_through_the_same_sequences() -> None:
    batches = TrainingBatches(Row(400), 16, 0, 3)
    small = np.concatenate([batches.batch(index, 5) for index in range(0, 60, 5)])
    assert np.array_equal(small, batches.batch(0, 60))


def test_too_little_text_for_one_sequence_is_refused() -> None:
    with pytest.raises(CorpusError, match="too few for one sequence of 66"):
        TrainingBatches(Row(65), 64, 1, 0)


def test_a_batch_that_does_not_divide_among_processes_is_refused() -> None:
    with pytest.raises(RecipeError, match="6 sequences does not divide among 4"):
        TrainingBatches(Row(1000), 16, 0, 0).batch(0, 6, rank=0, world=4)
