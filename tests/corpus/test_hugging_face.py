import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from fathom.config.corpus import HuggingFaceSource
from fathom.corpus.collecting import from_hugging_face
from fathom.errors import CorpusError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for the library, with one data set."""
    asked: dict[str, Any] = {}

    def load_dataset(name: str, subset: str | None, **options: Any) -> Iterator[dict[str, Any]]:
        asked.update(name=name, subset=subset, **options)
        if name != "someone/stories":
            raise ConnectionError("no such data set")
        return ({"text": f"Story number {number}.", "id": number} for number in range(1000))

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    return asked


def texts(source: HuggingFaceSource) -> list[str]:
    return [document.text for document in from_hugging_face(source, 4096).documents(lambda line: None)]


def test_rows_are_streamed_until_there_is_enough(hub: dict[str, Any]) -> None:
    found = texts(HuggingFaceSource(name="someone/stories", subset="small", revision="abc", max_bytes=100))
    assert found == [f"Story number {number}.\n" for number in range(len(found))]
    assert 90 < sum(map(len, found)) <= 100
    assert hub == {
        "name": "someone/stories",
        "subset": "small",
        "split": "train",
        "revision": "abc",
        "streaming": True,
    }


@pytest.mark.usefixtures("hub")
def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(CorpusError, match=r"no text under 'story' \(found: id, text\)"):
        texts(HuggingFaceSource(name="someone/stories", text_field="story"))


@pytest.mark.usefixtures("hub")
def test_a_data_set_that_cannot_be_read_says_what_else_to_do() -> None:
    with pytest.raises(CorpusError, match=r"'nobody/nothing' cannot be read .*no such data set.*or use a folder"):
        texts(HuggingFaceSource(name="nobody/nothing"))


def test_without_the_library_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match="needs the library datasets: install it"):
        texts(HuggingFaceSource(name="someone/stories"))
