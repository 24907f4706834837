"""Finding the right passage: by words (BM25), by vectors of a small language model, and by both together.

    python benchmarks/retrieval.py --model smollm2-135m-instruct

The documents are documentation of Python's standard library, each class or function a file in a knowledge folder. They
are asked for in other words (`retrieval_questions.py`), and some by their first sentence, which is then left out of the
document. `--plain` adds the plain mean of the last layer's states, for comparison.
"""

import argparse
import importlib
import inspect
import os
import pydoc
import random
import re
import sqlite3
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, show, spread, write
from retrieval_questions import QUESTIONS

from fathom.launch import prepare_process

FIRST_SENTENCE = re.compile(r"(.{30,200}?[.!?])\s+(\S.{80,})", re.S)
CUTS = (1, 3, 8)
LEFT_OUT = {"antigravity", "this", "idlelib", "turtledemo", "turtle", "lib2to3", "test", "tkinter", "pydoc_data"}


@dataclass
class Library:
    """Documents, and questions with the document that answers each."""

    documents: dict[str, str]
    questions: dict[str, list[tuple[str, str]]]


def parse() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--plain", action="store_true", help="measure the plain mean of the last layer's states, too")
    parser.add_argument("--name", default="retrieval", help="of the file in benchmarks/results")
    return parser.parse_args()


def documentation() -> dict[str, str]:
    """The documentation of every public class, function and method of the standard library, by name."""
    found: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module_name in sorted(name for name in sys.stdlib_module_names if not name.startswith("_")):
            if module_name in LEFT_OUT:
                continue
            try:
                module = importlib.import_module(module_name)
            except ImportError:
                continue
            for name, thing in _public(module):
                if inspect.isclass(thing) or inspect.isroutine(thing):
                    found.setdefault(_text(thing), f"{module_name}.{name}")
                if inspect.isclass(thing) and thing.__module__ in (module_name, "builtins"):
                    for method, member in _public(thing):
                        if inspect.isroutine(member):
                            found.setdefault(_text(member), f"{module_name}.{name}.{method}")
    return {name: text for text, name in found.items() if len(text) >= 20}


def _public(owner: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in sorted(vars(owner).items()) if not name.startswith("_")]


def _text(thing: Any) -> str:
    return (inspect.getdoc(thing) or "")[:1000]


def library(count: int) -> Library:
    """Every document that a question is about, and others up to `count`, drawn with a fixed seed."""
    names = {text: name for name, text in documentation().items()}
    asked = {}
    for name, question in QUESTIONS.items():
        text = _text(pydoc.locate(name))
        if len(text) >= 20:
            asked[question] = names.setdefault(text, name)
    others = sorted(set(names.values()) - set(asked.values()))
    random.Random(0).shuffle(others)
    texts = {name: text for text, name in names.items()}
    documents = {name: texts[name] for name in [*asked.values(), *others[: count - len(set(asked.values()))]]}
    sentences: list[tuple[str, str]] = []
    for name in others[:count]:
        found = FIRST_SENTENCE.fullmatch(texts[name]) if name in documents else None
        if found and len(sentences) < 200:
            sentences.append((found[1], name))
            documents[name] = found[2]
    return Library(documents, {"in other words": list(asked.items()), "first sentences": sentences})


def write_documents(folder: Path, documents: dict[str, str]) -> None:
    """One file each, with its name as heading."""
    for name, text in documents.items():
        (folder / f"{name}.md").write_text(f"# {name.rpartition('.')[2]}\n\n{text}\n", encoding="utf-8")


def recalls(ranking: Any, questions: list[tuple[str, str]]) -> dict[str, float]:
    """Of the questions, how many have their document among the first; `ranking` gives titles."""
    places = []
    for question, name in questions:
        titles = ranking(question)
        places.append(titles.index(f"{name}.md") if f"{name}.md" in titles else len(titles) + max(CUTS))
    return {f"recall@{cut}": sum(place < cut for place in places) / len(places) for cut in CUTS}


def nearest(titles: list[str], matrix: Any, embed: Any, questions: list[str]) -> Any:
    """A ranking of some questions' documents by cosine alone."""
    asked = dict(zip(questions, embed(questions), strict=True))

    def ranking(question: str) -> list[str]:
        order = np.argsort(-(matrix @ asked[question]), kind="stable")
        return [titles[place] for place in order[: max(CUTS)]]

    return ranking


def plain_embed(folder: Path) -> Any:
    """The mean over all tokens of the states that are ready for the head, without further thought."""
    import torch

    from fathom.corpus.tokenizer import Tokenizer
    from fathom.serve.embedder import BATCH
    from fathom.weights.load import load

    tokenizer, model = Tokenizer(folder), load(folder, torch.bfloat16, mtp=False)

    def embed(texts: list[str]) -> Any:
        made = np.empty((len(texts), model.config.hidden_size), np.float32)
        ids = [[*tokenizer.text_start, *tokens] for tokens in tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
        for some in (order[at : at + BATCH] for at in range(0, len(order), BATCH)):
            longest = len(ids[some[-1]])
            tokens = torch.tensor([ids[one] + [0] * (longest - len(ids[one])) for one in some])
            with torch.inference_mode():
                hidden = model.trunk(tokens).hidden.float()
            for row, one in enumerate(some):
                mean = hidden[row, : len(ids[one])].mean(0)
                made[one] = (mean / mean.norm()).numpy()
        return made

    return embed


def measure(asked: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Every ranking over every kind of question."""
    from fathom.cli.find import model_folder
    from fathom.serve.embedder import Embedder
    from fathom.serve.knowledge.folder import FILE, KnowledgeFolder

    model, made = model_folder(asked.model), library(asked.documents)
    (place / "documents").mkdir()
    write_documents(place / "documents", made.documents)
    embedder = Embedder.load(model)
    words = KnowledgeFolder(place / "documents", place / "words")
    both = KnowledgeFolder(place / "documents", place / "both", embedder)
    words.sync()
    standing = both.sync()
    begin = time.perf_counter()
    both.fill(float("inf"))
    seconds = time.perf_counter() - begin
    with sqlite3.connect(place / "both" / FILE) as rows:
        found = rows.execute("SELECT document, vector FROM passages JOIN vectors USING (digest)").fetchall()
    titles, matrix = [row[0] for row in found], np.stack([np.frombuffer(row[1], np.float32) for row in found])
    questions = [question for some in made.questions.values() for question, _ in some]
    rankings = {
        "words (BM25)": lambda question: [one.title for one in words.search(question)],
        "vectors": nearest(titles, matrix, embedder.embed, questions),
        "both (fused)": lambda question: [one.title for one in both.search(question)],
    }
    print(f"{standing.passages} passages made vectors in {seconds:.0f} s.", file=sys.stderr, flush=True)
    if asked.plain:
        embed = plain_embed(model)
        texts = [(place / "documents" / title).read_text(encoding="utf-8") for title in titles]
        rankings["plain mean, last layer"] = nearest(titles, embed(texts), embed, questions)
    facts: dict[str, Any] = {
        "passages": standing.passages,
        "passages_per_second": standing.passages / seconds,
        "questions": {kind: len(questions) for kind, questions in made.questions.items()},
        "recall": {
            name: {kind: recalls(ranking, questions) for kind, questions in made.questions.items()}
            for name, ranking in rankings.items()
        },
        "search_ms": {
            name: spread([_milliseconds(folder, question) for question in questions[:50]])
            for name, folder in (("words (BM25)", words), ("both (fused)", both))
        },
    }
    words.close()
    both.close()
    return facts


def _milliseconds(folder: Any, question: str) -> float:
    begin = time.perf_counter()
    folder.search(question)
    return 1e3 * (time.perf_counter() - begin)


def main() -> None:
    """Measure, print the table and write the JSON."""
    asked = parse()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    prepare_process()
    with tempfile.TemporaryDirectory() as place:
        facts = {"machine": machine(asked.threads), "asked": vars(asked)} | measure(asked, Path(place))
    kinds = facts["questions"]
    columns = ["ranking", *(f"{kind}, @{cut}" for kind in kinds for cut in CUTS)]
    rows = [
        [name, *(f"{100 * found[kind][f'recall@{cut}']:.0f} %" for kind in kinds for cut in CUTS)]
        for name, found in facts["recall"].items()
    ]
    asked_for = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    show(f"The right one of {facts['passages']} passages among the first ({asked_for}); {asked.model}", columns, rows)
    print(f"\n{facts['passages_per_second']:.0f} passages a second are made vectors.")
    for name, times in facts["search_ms"].items():
        print(f"A search by {name} takes {times['median']:.1f} ms.")
    print(f"\nwritten to {write(asked.name, facts)}")


if __name__ == "__main__":
    main()
