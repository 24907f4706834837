"""The running interpreter's own library: sources of some modules, documentation strings of the others."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from fathom.corpus.packages.package import Package, Texts

LEFT_OUT = frozenset(
    {
        "test", "tests", "idle_test", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__",
        "encodings", "pydoc_data", "ensurepip", "msilib",
    }
)  # fmt: skip
DOCUMENTED_SHARE = 0.35
"""Of the modules; these give their documentation, the others their sources, so that nothing is read twice."""


def library_folder() -> Path:
    """Where the standard library's sources lie."""
    return Path(sysconfig.get_paths()["stdlib"])


def read_sources(folder: Path) -> Texts:
    """Whole modules of Python."""
    for name, text in _modules(folder):
        if not _is_documented(name):
            yield name, text


def read_documentation(folder: Path) -> Texts:
    """The language reference that `help()` shows, then the documentation strings of each chosen module."""
    yield from _help_topics(folder)
    for name, text in _modules(folder):
        if _is_documented(name):
            strings = list(_documentation_strings(text))
            if strings:
                title = name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
                yield name, f"{title}\n\n" + "\n\n".join(strings)


def _modules(folder: Path) -> Texts:
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if LEFT_OUT.isdisjoint(name.parts) and not name.parts[0].startswith("config-"):
            try:
                yield name.as_posix(), path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue


def _is_documented(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] < 256 * DOCUMENTED_SHARE


def _help_topics(folder: Path) -> Texts:
    path = folder / "pydoc_data" / "topics.py"
    if not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(node.value).items()):
                yield f"topic {topic}", text


def _documentation_strings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and not isinstance(node, ast.Module):
                yield f"{node.name}\n{text}"
            elif text:
                yield text


_VERSION = ".".join(map(str, sys.version_info[:3]))
_ATTRIBUTION = "Python Software Foundation and contributors"

PYTHON_SOURCES = Package(
    name="python-standard-library",
    title="Sources of the Python standard library",
    group="code",
    licence="PSF-2.0",
    attribution=_ATTRIBUTION,
    read=read_sources,
    max_bytes=4_000_000,
    requirement=f"the running Python {_VERSION}",
)

PYTHON_DOCUMENTATION = Package(
    name="python-documentation",
    title="Python's language reference and documentation strings of its standard library",
    group="english",
    licence="PSF-2.0",
    attribution=_ATTRIBUTION,
    read=read_documentation,
    max_bytes=1_500_000,
    requirement=f"the running Python {_VERSION}",
)
