"""Text files below a folder: plain text, Markdown, source code, JSON lines (also compressed), parquet."""

import gzip
import importlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fathom.config.corpus import FolderSource
from fathom.corpus.cleaning import SKIP_HINT, decode
from fathom.corpus.groups import CODE_SUFFIXES, is_code
from fathom.errors import CorpusError

PLAIN = frozenset({".txt", ".md", ".rst", ".text"})
JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst")
Report = Callable[[str], None]


def files_of(source: FolderSource) -> list[Path]:
    """The files that are read, in the order of their names; hidden ones and other kinds are passed over."""
    root = source.path.expanduser()
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise CorpusError(f"source folder {root} does not exist: mend `path` in the corpus's sources.")
    paths = (path for path in root.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(root)))
    files = sorted(path for path in paths if _kind(path) is not None)
    if not files:
        raise CorpusError(
            f"source folder {root} holds no text: it needs .txt, .md, .jsonl (also .gz, .zst), .parquet or code."
        )
    return files


def read_folder(source: FolderSource, files: list[Path], report: Report) -> Iterator[tuple[Path, str, str]]:
    """Path, name and raw text of each document. A file that cannot be read stops it, or is reported and passed over."""
    for path in files:
        try:
            for number, text in enumerate(_texts(path, source.text_field)):
                yield path, path.name if _kind(path) is _plain else f"{path.name}:{number + 1}", text
        except CorpusError as error:
            if not source.skip_unreadable:
                raise
            report(f"passed over: {error}")


def _texts(path: Path, field: str) -> Iterator[str]:
    reader = _kind(path) or _plain
    try:
        yield from reader(path, field)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror or error}): mend it, or {SKIP_HINT}.") from None


def _kind(path: Path) -> Callable[[Path, str], Iterator[str]] | None:
    name = path.name.lower()
    if name.endswith(JSON_LINES):
        return _json_lines
    if path.suffix.lower() == ".parquet":
        return _parquet
    return _plain if path.suffix.lower() in PLAIN | CODE_SUFFIXES else None


def _plain(path: Path, field: str) -> Iterator[str]:
    yield decode(path.read_bytes(), path)


def _json_lines(path: Path, field: str) -> Iterator[str]:
    file, damage = _opened(path)
    with file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _field(_parsed(line, f"{path}, line {number}"), field, f"{path}, line {number}")
        except damage as error:
            raise CorpusError(
                f"{path} cannot be unpacked ({error}), as after a broken download: fetch it again, or {SKIP_HINT}."
            ) from None


def _opened(path: Path) -> tuple[BinaryIO | io.BufferedReader, tuple[type[Exception], ...]]:
    """A file of lines, and the errors by which its compression shows damage."""
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.open(path)), (EOFError, gzip.BadGzipFile, zlib.error)  # type: ignore[arg-type]
    if path.suffix == ".zst":
        zstandard = _optional("zstandard", path)
        stream = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True, read_across_frames=True)
        return io.BufferedReader(stream), (zstandard.ZstdError,)
    return path.open("rb"), ()


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: not valid UTF-8 ({error.reason} at byte {error.start}); mend it, or {SKIP_HINT}."
        ) from None
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{where}: not a line of JSON ({error.msg} at column {error.colno}); mend it, or {SKIP_HINT}."
        ) from None


def _field(row: Any, field: str, where: str) -> str:
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        found = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
        raise CorpusError(f"{where}: no text under '{field}' (found: {found}); set the source's text_field.")
    return text


def _parquet(path: Path, field: str) -> Iterator[str]:
    parquet = _optional("pyarrow.parquet", path)
    try:
        file = parquet.ParquetFile(path)
        if field not in file.schema_arrow.names:
            found = ", ".join(file.schema_arrow.names)
            raise CorpusError(f"{path}: no column '{field}' (found: {found}); set the source's text_field.")
        for batch in file.iter_batches(columns=[field]):
            for text in batch.column(0).to_pylist():
                if text:
                    yield text
    except (ValueError, TypeError) as error:  # pyarrow's errors for damaged files derive from these
        raise CorpusError(f"{path} is not a readable parquet file ({error}): mend it, or {SKIP_HINT}.") from None


def _optional(module: str, path: Path) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        library = module.partition(".")[0]
        raise CorpusError(
            f"{path} needs the library {library}: install it with `pip install 'fathom-lm[data]'`."
        ) from None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_code_file(path: Path) -> bool:
    """Whether the documents of this file are source code."""
    return is_code(path.name)
