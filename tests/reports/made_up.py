"""A run folder as training leaves it, with made-up but likely numbers."""

import json
import math
import random
from pathlib import Path

from fathom.config.recipe import Recipe
from fathom.corpus.manifest import Manifest, SourceEntry, SplitEntry, describe_file
from fathom.train.observer import Evaluation, Event, Sample, StepMetrics, as_record
from fathom.train.run import RunFolder, append_line, write_json

VALUES = {
    "about": "A made-up run",
    "model": {"preset": "laptop-4", "n_routed_experts": 16},
    "corpus": {"vocab_size": 8192},
    "train": {"steps": 400, "sequence_length": 512, "batch_sequences": 16, "samples": {"every": 100}},
}
TEXTS = {
    "english": "It was a dark and stormy night, and the sea was deep. " * 40,
    "chinese": "床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 40,
    "code": "def fathom(line):\n    return len(line) / 1.8288\n\n" * 40,
}
SAMPLES = {"The meaning of": " the <sea> is deep", "def main(": "):\n    pass", "今天": "天气很好。"}


def make_corpus(folder: Path) -> None:
    """A finished corpus, as far as a report reads one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "train-00000.bin").write_bytes(b"\0\0" * 1000)
    shard = describe_file(folder / "train-00000.bin")
    splits = {"train": SplitEntry(files=(shard,), documents=12_345, text_bytes=28_400_000, tokens=8_300_000)}
    for group, text in TEXTS.items():
        words = text.split(" ")
        random.Random(1).shuffle(words)
        path = folder / f"validation-{group}.txt"
        path.write_text(" ".join(words), encoding="utf-8")
        splits[f"validation-{group}"] = SplitEntry(
            files=(), documents=3, text_bytes=path.stat().st_size, tokens=900, text=describe_file(path)
        )
    sources = [
        SourceEntry(
            name=name,
            title=title,
            licence=licence,
            attribution="",
            origin="made up",
            sha256="",
            group=group,
            documents=1200,
            text_bytes=4_000_000,
        )
        for name, title, licence, group in (
            ("novels", "Six novels", "public domain", "english"),
            ("poems", "Song ci poems", "MIT; texts in the public domain", "chinese"),
            ("library", "A standard library", "PSF-2.0", "code"),
        )
    ]
    Manifest(
        vocab_size=8192,
        dtype="uint16",
        eos_id=1,
        tokenizer=(describe_file(folder / "tokenizer.json"),),
        splits=splits,
        groups={},
        sources=tuple(sources),
        dropped={},
        config={},
    ).save(folder)


def make_run(folder: Path, steps: int = 400, *, corpus: bool = True, model: bool = True) -> Path:
    """A run of `steps` steps in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files, chance = RunFolder(folder), random.Random(0)
    recipe = Recipe.from_values(VALUES, source="made-up.toml")
    recipe.save(files.recipe)
    if corpus:
        make_corpus(folder / "corpus")
    start = {"started": "2026-01-02T03:04:05Z", "corpus": str(folder / "corpus"), "processor": "AVX512"}
    write_json(files.provenance, [start | {"threads": 2, "processes": 1, "torch": "2.13.0", "overrides": []}])
    layers, experts = 4, recipe.model.n_routed_experts
    taste = [[chance.gauss(0, 1) for _ in range(experts)] for _ in range(layers)]
    for step in range(1, steps + 1):
        loss = 2.6 + 6.4 * math.exp(-step / 70) + chance.gauss(0, 0.05)
        uneven = 0.12 + 1.1 * math.exp(-step / 60)
        loads = [[max(int(512 * (1 + uneven * t + chance.gauss(0, 0.05))), 0) for t in layer] for layer in taste]
        append_line(
            files.metrics,
            as_record(
                StepMetrics(
                    step=step,
                    steps=steps,
                    sequences=step * 16,
                    tokens=step * 8192,
                    loss=loss,
                    bits_per_byte=loss / 2.37,
                    mtp_loss=(loss + 0.9,),
                    balance_loss=1.02,
                    grad_norm=0.8,
                    learning_rate=2e-3,
                    seconds=1.0,
                    elapsed=step * 1.1,
                    tokens_per_second=8192 / (0.95 + 0.1 * chance.random()) * (0.4 if step < 3 else 1),
                    matmul_share=0.42,
                    max_vio=uneven * 1.8,
                    max_vio_by_layer=(uneven,) * layers,
                    max_vio_global=uneven,
                    expert_load=tuple(map(tuple, loads)) if step % 2 == 0 else None,
                    memory_bytes=1_400_000_000,
                )
            ),
        )
        if step % 50 == 0 or step == steps:
            for group, floor in (("english", 2.0), ("chinese", 3.0), ("code", 1.4)):
                value = floor + 5 * math.exp(-step / 80)
                evaluation = Evaluation(step, group, value, value * 2.3, 9000, 32_000, 512, 256, step == steps, 0.2)
                append_line(files.evaluations, as_record(evaluation))
        if step % 100 == 0:
            for prompt, text in SAMPLES.items():
                append_line(files.samples, as_record(Sample(step, prompt, text)))
    append_line(files.events, as_record(Event(20, "going on from the checkpoint of step 20")))
    if model:
        files.model.mkdir()
        (files.model / "config.json").write_text(json.dumps(recipe.model.to_hf()))
    return folder
