"""Which language group a document belongs to, by its file's name or the script of its letters."""

import re
from pathlib import PurePath

from fathom.config.corpus import Group

CODE_SUFFIXES = frozenset({
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".cu", ".rs", ".go", ".java", ".kt", ".scala", ".swift",
    ".js", ".mjs", ".jsx", ".ts", ".tsx", ".cs", ".rb", ".php", ".pl", ".lua", ".r", ".jl", ".hs", ".ml", ".ex",
    ".exs", ".erl", ".clj", ".sh", ".bash", ".sql", ".css", ".html", ".toml", ".yaml", ".yml", ".cmake", ".zig",
    ".dart", ".vue", ".proto",
})  # fmt: skip
SAMPLE = 20_000
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
WORD_CHARACTER = re.compile(r"[^\W\d_]")
HAN_SHARE = 0.3
"""A Han character says about as much as a short word, so a third of the letters makes a Chinese text."""


def is_code(name: str) -> bool:
    """Whether a file of this name holds source code."""
    return PurePath(name).suffix.lower() in CODE_SUFFIXES


def group_of(text: str) -> Group:
    """The group of a text that is not source code."""
    sample = text[:SAMPLE]
    letters = len(WORD_CHARACTER.findall(sample))
    if len(HAN.findall(sample)) > HAN_SHARE * letters:
        return "chinese"
    return "english" if len(LATIN.findall(sample)) >= letters / 2 else "other"
