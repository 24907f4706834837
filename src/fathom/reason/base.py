"""The model that reinforcement learning starts from, pre-trained phase by phase on its task's own documents.

Two phases are one idea: a skill is built while it is common (phase one: many searches, and the facts that checks are
made of), then made rare (phase two), so that the base has it and seldom uses it. docs/reasoning.md has the figures.
"""

from collections.abc import Callable
from pathlib import Path

from fathom.config.corpus import CorpusConfig, FolderSource
from fathom.config.reason import BaseConfig
from fathom.corpus.build import build_corpus
from fathom.errors import RecipeError
from fathom.reason.documents import Teachable, write_documents
from fathom.reason.registry import make_task
from fathom.reason.task import Task
from fathom.train.loop import train
from fathom.train.observer import Observer
from fathom.train.result import never


def build_base(
    config: BaseConfig,
    task: Task,
    folder: Path,
    *,
    observer: Observer | None = None,
    stop: Callable[[], bool] = never,
) -> Path | None:
    """The base's model folder, trained in `folder` if it is not there yet; None if it was asked to stop on the way.

    Interrupted at any point, the same call goes on from there.
    """
    if config.folder is not None:
        return config.folder
    taught = [
        teachable(make_task(each.task.name, **each.task.options) if each.task else task) for each in config.phases
    ]
    model: Path | None = None
    tokenizer = "train"
    for number, phase in enumerate(config.phases):
        place = folder / f"phase-{number + 1}"
        texts = write_documents(taught[number], phase.documents, config.seed + number, place / "documents.jsonl")
        corpus = corpus_of(texts, tokenizer, config.vocab_size)
        build_corpus(corpus, place / "corpus")
        recipe = config.recipe(number, corpus.model_dump(mode="json"), model)
        result = train(recipe, place / "run", corpus=place / "corpus", observer=observer, stop=stop)
        if not result.finished:
            return None
        model, tokenizer = result.model, str(place / "corpus")
    return model


def teachable(task: Task) -> Teachable:
    """The task, if it can write what a base reads."""
    if not isinstance(task, Teachable):
        raise RecipeError(
            f"task '{task.name}' writes no documents of its own: give base.folder, a model to start from."
        )
    return task


def corpus_of(texts: Path, tokenizer: str, vocab_size: int) -> CorpusConfig:
    """Documents as they are: problems repeat each other's words, and none is to be rearranged or left out for that."""
    return CorpusConfig(
        sources=(FolderSource(path=texts, group="other", licence="made by Fathom"),),
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        fim_rate=0.0,
        exact_duplicates=False,
        near_duplicates=0.0,
        repeated_paragraphs=False,
        validation_bytes=100_000,
    )
