"""What a general compressor makes of the same text: the bar a language model has to beat."""

import lzma
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Compressed:
    """A text under a compressor."""

    name: str
    text_bytes: int
    compressed_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Bits of the compressed text over bytes of the text."""
        return 8 * self.compressed_bytes / self.text_bytes


def xz(text: bytes) -> Compressed:
    """The size of `text` under `xz -9e`, container included."""
    packed = lzma.compress(text, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=9 | lzma.PRESET_EXTREME)
    return Compressed("xz -9e", len(text), len(packed))


def xz_of_file(path: Path) -> Compressed:
    """`xz` of a file, such as a corpus's `validation-english.txt`."""
    return xz(path.read_bytes())
