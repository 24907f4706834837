"""Making text uniform: what looks the same is the same, and nothing in it is invisible."""

import re
import unicodedata
from pathlib import Path

from fathom.errors import CorpusError

INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\ufeff\ufffe\uffff]"
)
TRAILING_SPACE = re.compile(r"[ \t]+$", re.M)
MANY_BLANK_LINES = re.compile(r"\n{4,}")
SNIFFED_BYTES = 8192
LARGEST_SHARE_OF_CONTROLS = 0.05
SKIP_HINT = "set skip_unreadable = true in its source to pass over such files"


def clean(text: str) -> str:
    """NFC, line feeds only, no invisible characters, no trailing spaces, one line end at the end; "" if all is blank.

    Compatibility forms (NFKC) are kept apart on purpose: Chinese punctuation is of full width.
    """
    text = INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = MANY_BLANK_LINES.sub("\n\n\n", TRAILING_SPACE.sub("", unicodedata.normalize("NFC", text)))
    text = text.strip("\n").rstrip()
    return f"{text}\n" if text else ""


def decode(content: bytes, path: Path) -> str:
    """The text of a file's bytes, or an error that says why they are none."""
    if is_binary(content[:SNIFFED_BYTES]):
        raise CorpusError(f"{path} is a binary file, not text: remove it from the folder, or {SKIP_HINT}.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not valid UTF-8: byte {content[error.start]:#04x} at offset {error.start:,}; convert it "
            f"(iconv -f latin1 -t utf-8, or whatever it is written in), or {SKIP_HINT}."
        ) from None


def is_binary(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a picture, an archive, a program or UTF-16."""
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b\b" for byte in start)
    return b"\0" in start or controls > LARGEST_SHARE_OF_CONTROLS * max(len(start), 1)
