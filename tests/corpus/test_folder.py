import gzip
import json
from pathlib import Path

import pytest

from fathom.config.corpus import FolderSource
from fathom.corpus.collecting import from_folder
from fathom.corpus.documents import Document
from fathom.errors import CorpusError


def documents(folder: Path, **fields: object) -> list[Document]:
    source = FolderSource(path=folder, **fields)  # type: ignore[arg-type]
    return list(from_folder(source, folder / "built", 4096).documents(lambda line: None))


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def test_text_markdown_code_and_json_lines_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    (tmp_path / "b.jsonl").write_bytes(lines("Two.", "三。"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines("Four.")))
    (tmp_path / "d.py").write_text("five = 5")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "e.md").write_text("# Six")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("No.")
    found = documents(tmp_path)
    assert [item.text for item in found] == ["One.\n", "Two.\n", "三。\n", "Four.\n", "five = 5\n", "# Six\n"]
    assert [item.group for item in found] == ["english", "english", "chinese", "english", "code", "english"]


def test_zst_and_parquet_are_read_where_their_libraries_are(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(lines("One.", "Two.")))
    parquet.write_table(arrow.table({"text": ["Three.", None, "Four."], "n": [1, 2, 3]}), tmp_path / "b.parquet")
    assert [item.text for item in documents(tmp_path)] == ["One.\n", "Two.\n", "Three.\n", "Four.\n"]


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(lines(*map(str, range(1000))))
    (tmp_path / "damaged.jsonl.gz").write_bytes(whole[:50] + b"xxxxxxxx" + whole[58:])
    with pytest.raises(CorpusError, match=r"damaged\.jsonl\.gz(, line \d+: not| cannot be unpacked)"):
        documents(tmp_path)
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "damaged.jsonl.gz").unlink()
    (tmp_path / "damaged.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(b"{}" * 999)[:9] + b"xxxx")
    with pytest.raises(CorpusError, match=r"damaged\.jsonl\.zst cannot be unpacked"):
        documents(tmp_path)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(CorpusError, match=r"b\.parquet is not a readable parquet file"):
        documents(tmp_path)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r"b\.parquet needs the library pyarrow: install it"):
        documents(tmp_path)


def test_a_single_file_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("Once upon a time.")
    assert [item.text for item in documents(tmp_path / "book.txt")] == ["Once upon a time.\n"]


def test_reading_stops_after_so_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(*["x" * 99] * 10))
    assert len(documents(tmp_path, max_bytes=350)) == 3


def test_bad_files_are_refused_by_name_or_reported_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a-latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "b-program.txt").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "c-good.txt").write_text("Good.")
    (tmp_path / "d-cut.jsonl.gz").write_bytes(gzip.compress(lines(*map(str, range(1000))))[:-9])
    with pytest.raises(CorpusError, match=r"a-latin\.txt is not valid UTF-8"):
        documents(tmp_path)
    reports: list[str] = []
    source = FolderSource(path=tmp_path, skip_unreadable=True)
    found = list(from_folder(source, tmp_path / "built", 4096).documents(reports.append))
    assert found[0].text == "Good.\n"
    assert [line.split(" ")[2].rsplit("/", 1)[1] for line in reports] == [
        "a-latin.txt",
        "b-program.txt",
        "d-cut.jsonl.gz",
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"text": "a"\n', r"bad\.jsonl, line 2: not a line of JSON"),
        (b'{"body": "a"}\n', r"line 2: no text under 'text' \(found: body\); set the source's text_field"),
        (b'{"text": "\xff"}\n', r"line 2: not valid UTF-8"),
        (b"[1]\n", r"line 2: no text under 'text' \(found: list\)"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(lines("fine") + line)
    with pytest.raises(CorpusError, match=complaint):
        documents(tmp_path)


def test_a_folder_without_text_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no text"):
        documents(tmp_path)
    with pytest.raises(CorpusError, match="does not exist"):
        documents(tmp_path / "nowhere")


def test_the_corpus_is_never_built_from_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "validation-english.txt").write_text("Two.")
    assert [item.text for item in documents(tmp_path)] == ["One.\n"]
    with pytest.raises(CorpusError, match="is where the corpus is to be built"):
        from_folder(FolderSource(path=tmp_path), tmp_path, 4096)
