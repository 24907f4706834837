"""A folder whose passages are found by their vectors, too."""

import sqlite3

import numpy as np
import pytest

from fathom.errors import WeightsError
from fathom.serve.knowledge.folder import KnowledgeFolder
from fathom.serve.knowledge.fusion import fused

MEANINGS = {"ocean": 0, "sea": 0, "water": 0, "rock": 1, "stone": 1, "fire": 2, "flame": 2}


class Meanings:
    """Knows what some words mean, and remembers what it was asked."""

    name = "meanings"
    dimension = 3

    def __init__(self, maker=b"first", broken=()):
        self.maker, self.broken, self.read = maker, broken, []

    def embed(self, texts):
        if any(word in text for text in texts for word in self.broken):
            raise WeightsError("NaN, alas")
        self.read += texts
        vectors = np.full((len(texts), 3), 1e-3, np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.lower().replace(".", " ").replace("?", " ").split():
                if word in MEANINGS:
                    vector[MEANINGS[word]] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "sea.md").write_text("The sea is wide.\n")
    (folder / "stone.md").write_text("A stone is hard.\n")
    (folder / "flame.md").write_text("A flame is hot.\n")
    return folder


@pytest.fixture
def opened(tmp_path, documents):
    made = []

    def open_it(embedder=None):
        for one in made:
            one.close()
        made[:] = [KnowledgeFolder(documents, tmp_path / "index", embedder)]
        made[0].sync()
        return made[0]

    yield open_it
    for one in made:
        one.close()


@pytest.fixture
def filled(opened):
    def fill(embedder):
        folder = opened(embedder)
        folder.fill(60)
        return folder

    return fill


def titles(folder, question):
    return [one.title for one in folder.search(question)]


def rows(tmp_path):
    with sqlite3.connect(tmp_path / "index" / "knowledge.sqlite") as database:
        return database.execute("SELECT maker, vector FROM vectors").fetchall()


def test_a_passage_is_found_by_what_it_means(filled):
    folder = filled(Meanings())
    assert titles(folder, "How big is the ocean?")[0] == "sea.md"
    assert titles(folder, "rock")[0] == "stone.md"


def test_words_and_meaning_count_together(filled):
    assert titles(filled(Meanings()), "hot rock")[:2] == ["flame.md", "stone.md"]


def test_words_are_enough_until_the_vectors_are_there(opened):
    folder = opened(Meanings())
    assert folder.standing().without_vector == 3
    assert titles(folder, "wide sea") == ["sea.md"]
    folder.fill(60)
    assert folder.standing().without_vector == 0


def test_only_what_is_new_is_read_again(filled, documents):
    embedder = Meanings()
    folder = filled(embedder)
    embedder.read.clear()
    (documents / "sea.md").rename(documents / "renamed.md")
    (documents / "stone.md").write_text("A rock is grey.\n")
    (documents / "flame.md").unlink()
    folder.sync()
    folder.fill(60)
    assert embedder.read == ["A rock is grey."]
    assert titles(folder, "ocean")[0] == "renamed.md"
    assert "flame.md" not in titles(folder, "fire")


def test_vectors_of_what_is_gone_are_forgotten(filled, documents, tmp_path):
    folder = filled(Meanings())
    (documents / "flame.md").unlink()
    folder.sync()
    assert len(rows(tmp_path)) == 2


def test_filling_goes_on_where_it_was_interrupted(opened, documents):
    for number in range(150):
        (documents / f"{number}.md").write_text(f"Stone number {number}.\n")
    first = Meanings()
    folder = opened(first)
    folder.fill(0)
    assert first.read == []
    stopping = Meanings()
    stopping.embed = lambda texts: (folder.stop(), Meanings.embed(stopping, texts))[1]
    folder = opened(stopping)
    folder.fill(60)
    last = Meanings()
    folder = opened(last)
    folder.fill(60)
    assert 0 < len(stopping.read) < 153
    assert len(stopping.read) + len(last.read) == 153


def test_another_models_vectors_are_never_compared(filled, opened, tmp_path):
    filled(Meanings())
    other = Meanings(maker=b"second")
    folder = opened(other)
    assert folder.standing().without_vector == 3
    assert titles(folder, "ocean") == []
    folder.fill(60)
    assert titles(folder, "ocean")[0] == "sea.md"
    assert {maker for maker, _ in rows(tmp_path)} == {b"second"}


def test_a_vector_of_the_wrong_length_is_made_again(filled, opened, tmp_path):
    filled(Meanings()).close()
    with sqlite3.connect(tmp_path / "index" / "knowledge.sqlite") as database:
        database.execute("UPDATE vectors SET vector = x'00' WHERE rowid = 1")
    folder = opened(Meanings())
    assert folder.standing().without_vector == 1
    folder.fill(60)
    assert {len(vector) for _, vector in rows(tmp_path)} == {12}


def test_a_passage_without_a_vector_does_not_hold_up_the_others(filled):
    folder = filled(Meanings(broken=["stone"]))
    assert titles(folder, "ocean")[0] == "sea.md"
    assert titles(folder, "hard stone") == ["stone.md"]
    standing = folder.standing()
    assert standing.without_vector == 0
    assert ("", "NaN, alas") in standing.problems


def test_without_an_embedder_old_vectors_stay_and_are_not_used(filled, opened, tmp_path):
    filled(Meanings())
    assert titles(opened(), "ocean") == []
    assert len(rows(tmp_path)) == 3


def test_an_index_from_before_there_were_vectors_is_read_again(opened, documents, tmp_path):
    opened().close()
    with sqlite3.connect(tmp_path / "index" / "knowledge.sqlite") as database:
        database.executescript(
            "DROP TABLE vectors; DROP INDEX passages_by_digest; ALTER TABLE passages DROP COLUMN digest;"
            "PRAGMA user_version = 1;"
        )
    assert titles(opened(), "wide sea") == ["sea.md"]


def test_the_first_by_words_stays_first_and_the_first_by_vectors_comes_early():
    assert fused(range(1, 50), [90, 91]).index(90) == 4
    assert fused([1, 2, 3], [9, 1])[0] == 1


def test_what_both_rank_gains_by_it():
    assert fused([1, 2, 3], [3]) == [3, 1, 2]
    assert fused([1, 2], []) == [1, 2]
    assert fused([], [2, 1]) == [2, 1]
