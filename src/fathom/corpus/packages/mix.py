"""The default mix: which packages make it up, best first."""

from fathom.corpus.packages.bibles import CHINESE_UNION, KING_JAMES
from fathom.corpus.packages.chinese_poetry import CHINESE_CLASSICS, SONG_CI, TANG_POETRY, YUAN_QU
from fathom.corpus.packages.factbook import FACTBOOK
from fathom.corpus.packages.networkx import NETWORKX
from fathom.corpus.packages.package import Package
from fathom.corpus.packages.r_novels import AUSTEN, MOBY_DICK
from fathom.corpus.packages.shakespeare import SHAKESPEARE
from fathom.corpus.packages.standard_library import PYTHON_DOCUMENTATION, PYTHON_SOURCES
from fathom.corpus.packages.wikipedia import WIKIPEDIA
from fathom.corpus.packages.wordnet import WORDNET
from fathom.errors import RecipeError

MIX: tuple[Package, ...] = (
    AUSTEN,
    MOBY_DICK,
    WIKIPEDIA,
    KING_JAMES,
    SHAKESPEARE,
    FACTBOOK,
    WORDNET,
    PYTHON_DOCUMENTATION,
    CHINESE_UNION,
    CHINESE_CLASSICS,
    SONG_CI,
    TANG_POETRY,
    YUAN_QU,
    PYTHON_SOURCES,
    NETWORKX,
)


def packages_named(names: tuple[str, ...]) -> list[Package]:
    """The packages called so, in the order of the mix."""
    unknown = set(names) - {package.name for package in MIX}
    if unknown:
        known = ", ".join(package.name for package in MIX)
        raise RecipeError(f"no package source is called {', '.join(sorted(unknown))}; there are {known}.")
    return [package for package in MIX if package.name in names]
