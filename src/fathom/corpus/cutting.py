"""Cutting a book into documents of the size of a chapter, where a reader would turn a page."""

import re

HEADING = re.compile(
    r"^(?:#{1,6} |(?:chapter|book|part|act|scene|letter|canto|section|volume)\b|[IVXLC]+\.?$"
    r"|第.{1,8}[章回卷节篇部]|(?:async )?def |class |@)",
    re.I,
)
PARAGRAPH_END = re.compile(r"\n{2,}")
LINE_END = re.compile(r"\n")
SENTENCE_END = re.compile(r"[.!?] |[。！？；]")


def cut(text: str, limit: int) -> list[str]:
    """Pieces of `text` of at most `limit` bytes of UTF-8; put one after the other they are `text` again.

    A piece ends before a heading where one comes late enough, else at a paragraph, a line, a sentence, or anywhere.
    """
    pieces = []
    encoded = text.encode("utf-8")
    start = 0
    while len(encoded) - start > limit:
        window = _decodable(encoded[start : start + limit])
        length = len(window[: _end(window)].encode("utf-8"))
        pieces.append(encoded[start : start + length].decode("utf-8"))
        start += length
    pieces.append(encoded[start:].decode("utf-8"))
    return pieces


def _decodable(content: bytes) -> str:
    """The whole characters at the start of `content`."""
    return content.decode("utf-8", errors="ignore")


def _end(window: str) -> int:
    """Where the first piece of `window` should end; never at 0."""
    earliest = len(window) // 3
    paragraphs = [match.end() for match in PARAGRAPH_END.finditer(window, earliest)]
    headings = [end for end in paragraphs if HEADING.match(window[end : end + 40])]
    if headings:
        return headings[-1]
    if paragraphs:
        return paragraphs[-1]
    for boundary in (LINE_END, SENTENCE_END):
        ends = [match.end() for match in boundary.finditer(window, earliest)]
        if ends:
            return ends[-1]
    return len(window)
