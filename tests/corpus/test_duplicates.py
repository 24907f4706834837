import random
from collections.abc import Callable

import numpy as np
import pytest

from fathom.corpus.duplicates import fingerprint, letters, near_duplicates, signatures
from fathom.corpus.holding_out import Weighed, held_out
from fathom.corpus.paragraphs import ParagraphFilter

WORDS = [
    f"{first}{second}" for first in ("sun", "rain", "stone", "bird", "hill") for second in ("light", "fall", "ing", "s")
]


def prose(seed: int, words: int = 400) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def edited(text: str, changes: int) -> str:
    words = text.split()
    for place in random.Random(1).sample(range(len(words)), changes):
        words[place] = "changed"
    return " ".join(words)


def similarity(one: str, other: str) -> float:
    windows = [{letters(text)[start : start + 24] for start in range(len(letters(text)) - 23)} for text in (one, other)]
    return len(windows[0] & windows[1]) / len(windows[0] | windows[1])


def test_case_spacing_and_punctuation_do_not_make_another_text() -> None:
    assert fingerprint("Call me Ishmael.") == fingerprint("call  me\nISHMAEL")
    assert fingerprint("Call me Ishmael.") != fingerprint("Call me Ahab.")


@pytest.mark.parametrize("changes", [1, 5, 20, 60])
def test_equal_bins_estimate_the_share_of_common_windows(changes: int) -> None:
    text = prose(0, 2000)
    other = edited(text, changes)
    one, two = signatures([text, other])
    assert (one == two).mean() == pytest.approx(similarity(text, other), abs=0.12)


def test_signatures_do_not_depend_on_the_neighbours_in_a_batch() -> None:
    texts = [prose(seed, words) for seed, words in ((1, 3), (2, 50), (3, 900))]
    together = signatures(texts)
    alone = np.concatenate([signatures([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_near_copies_point_to_the_first_and_others_to_themselves() -> None:
    originals = [prose(seed) for seed in range(30)]
    copies = [edited(text, 2) for text in originals[:10]]
    first = near_duplicates(signatures([*originals, *copies]), 0.8)
    assert first[:30].tolist() == list(range(30))
    assert first[30:].tolist() == list(range(10))


def test_a_chain_of_copies_leads_to_one_document() -> None:
    chain = [prose(0)]
    for _ in range(4):
        chain.append(edited(chain[-1] + " ", 3))
    assert near_duplicates(signatures(chain), 0.8).tolist() == [0] * 5


def test_nothing_is_compared_where_there_is_nothing() -> None:
    assert len(near_duplicates(signatures([]), 0.8)) == 0


def test_a_paragraph_of_an_earlier_document_is_dropped_and_a_short_refrain_stays() -> None:
    repeated = ParagraphFilter()
    shared, refrain = prose(1, 60), "He said."
    assert repeated(f"First.\n\n{shared}\n\n{refrain}\n") == f"First.\n\n{shared}\n\n{refrain}\n"
    assert repeated(f"Second.\n\n{shared}\n\n{refrain}\n") == f"Second.\n\n{refrain}\n"
    assert repeated.dropped == 1


@pytest.fixture
def weighed() -> Callable[..., list[Weighed]]:
    def make(sizes: list[tuple[int, str]]) -> list[Weighed]:
        chance = random.Random(0)
        return [
            Weighed(source, group, chance.randbytes(32), chance.randrange(500, 1500))
            for source, (count, group) in enumerate(sizes)
            for _ in range(count)
        ]

    return make


def test_each_source_gives_held_out_text_in_proportion(weighed: Callable[..., list[Weighed]]) -> None:
    documents = weighed([(300, "english"), (100, "english"), (200, "chinese")])
    held = held_out(documents, target_bytes=40_000, largest_share=0.2)
    size = {source: sum(documents[i].text_bytes for i in held if documents[i].source == source) for source in range(3)}
    assert size[0] == pytest.approx(30_000, abs=1500)
    assert size[1] == pytest.approx(10_000, abs=1500)
    assert size[2] == pytest.approx(40_000, abs=1500)


def test_no_more_than_the_largest_share_is_held_out(weighed: Callable[..., list[Weighed]]) -> None:
    documents = weighed([(100, "code")])
    held = held_out(documents, target_bytes=10**9, largest_share=0.05)
    assert sum(documents[i].text_bytes for i in held) / sum(d.text_bytes for d in documents) < 0.07


def test_a_small_group_gives_one_document_and_a_single_document_none(weighed: Callable[..., list[Weighed]]) -> None:
    assert len(held_out(weighed([(3, "english")]), 300_000, 0.05)) == 1
    assert held_out(weighed([(1, "english")]), 300_000, 0.05) == set()
    assert held_out(weighed([(50, "english")]), 0, 0.05) == set()


def test_equal_texts_are_never_on_both_sides() -> None:
    documents = [Weighed(0, "english", bytes([number % 5]) * 32, 1000) for number in range(100)]
    held = held_out(documents, 10_000, 0.5)
    assert held
    assert {documents[i].digest for i in held}.isdisjoint(documents[i].digest for i in set(range(100)) - held)


def test_a_document_held_out_stays_held_out_when_its_neighbours_come_in_another_order(
    weighed: Callable[..., list[Weighed]],
) -> None:
    documents = weighed([(200, "english")])
    held = {documents[i].digest for i in held_out(documents, 10_000, 0.2)}
    backwards = documents[::-1]
    assert {backwards[i].digest for i in held_out(backwards, 10_000, 0.2)} == held
