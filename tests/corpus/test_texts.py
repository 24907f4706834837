"""Cleaning, cutting, grouping, rearranging: what happens to a text on its way to tokens."""

import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fathom.corpus.cleaning import clean, decode
from fathom.corpus.cutting import cut
from fathom.corpus.fim import joined, rearranged
from fathom.corpus.groups import group_of
from fathom.errors import CorpusError

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(text=ANY_TEXT)
@example("e\u200b\u0301")
def test_clean_text_is_normal_visible_and_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not set(cleaned) & set("\r\x00\x1b\u200b\ufeff")
    assert cleaned == "" or (cleaned.endswith("\n") and cleaned.strip())


def test_cleaning_joins_accents_and_keeps_full_width_punctuation() -> None:
    assert clean("\ufeffcafe\u0301，  \r\n\r\n\r\n\r\n\r\n\r\n好！") == "café，\n\n\n好！\n"


def test_a_binary_file_is_named_and_refused() -> None:
    with pytest.raises(CorpusError, match=r"photo\.txt is a binary file"):
        decode(b"\x89PNG\x00\x00", Path("photo.txt"))


def test_invalid_utf8_is_refused_with_the_place_and_the_way_out() -> None:
    with pytest.raises(
        CorpusError, match=r"old\.txt is not valid UTF-8: byte 0xe9 at offset 3.*iconv.*skip_unreadable"
    ):
        decode("café".encode("latin-1"), Path("old.txt"))


@given(text=ANY_TEXT, limit=st.integers(8, 64))
def test_pieces_fit_and_give_back_the_text(text: str, limit: int) -> None:
    pieces = cut(text, limit)
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= limit for piece in pieces)
    assert all(pieces) or pieces == [""]


def test_a_book_is_cut_before_its_chapters() -> None:
    chapters = [f"CHAPTER {number}\n\n" + "It was a long day at sea. " * 30 + "\n\n" for number in range(6)]
    pieces = cut("".join(chapters), 2000)
    assert len(pieces) > 2
    assert all(piece.startswith("CHAPTER") for piece in pieces)


def test_a_text_without_paragraphs_is_cut_after_a_sentence() -> None:
    assert all(piece.endswith("。") for piece in cut("山高水长。" * 100, 200))


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("A quiet morning.", "english"),
        ("Une matinée tranquille.", "english"),
        ("春眠不觉晓，处处闻啼鸟。", "chinese"),
        ("学习 Python 编程语言", "chinese"),
        ("Тихое утро.", "other"),
        ("12345", "english"),
    ],
)
def test_a_text_belongs_to_the_group_of_its_script(text: str, group: str) -> None:
    assert group_of(text) == group


@given(text=st.text(min_size=1), seed=st.binary(max_size=8))
def test_a_rearranged_document_has_all_of_its_text(text: str, seed: bytes) -> None:
    plan = rearranged(text, 1.0, seed)
    assert plan is not None
    assert plan.prefix + plan.middle + plan.suffix == text
    assert plan == rearranged(text, 1.0, seed)


def test_about_the_asked_share_of_documents_is_rearranged() -> None:
    hits = sum(rearranged("some text", 0.1, random.Random(seed).randbytes(8)) is not None for seed in range(2000))
    assert 140 < hits < 260
    assert rearranged("some text", 0.0, b"") is None


def test_the_parts_come_as_prefix_suffix_middle() -> None:
    assert joined([1], [3], [2], begin=10, hole=11, end=12) == [10, 1, 11, 3, 12, 2]
