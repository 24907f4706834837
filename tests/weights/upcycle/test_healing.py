"""A short training from an upcycled folder brings it back towards the text."""

import json
from pathlib import Path

import foreign
from fathom.cli.find import shipped_recipes
from fathom.config.corpus import CorpusConfig
from fathom.config.recipe import Recipe
from fathom.corpus.build import build_corpus
from fathom.corpus.manifest import Manifest
from fathom.corpus.tokenizer import Tokenizer
from fathom.train.loop import train
from fathom.weights.folder import load, save
from fathom.weights.upcycle.config import UpcycleConfig
from fathom.weights.upcycle.upcycle import Upcycling
from small import LLAMA, small_config, small_model
from tiny_run import TINY, VOCABULARY, losses, make_corpus


def test_healing_begins_with_the_upcycled_weights_and_lowers_the_loss(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    tokenizer = Tokenizer(corpus)
    config = small_config(LLAMA, vocab_size=VOCABULARY, eos_token_id=tokenizer.eos_id)
    model = small_model(config)
    tokens = load_tokens(corpus)
    made, _ = Upcycling(model, tokens, quiet=True).make(UpcycleConfig(kv_lora_rank=12, experts=7, experts_per_token=3))
    folder = save(made, tmp_path / "upcycled", tokenizer_from=corpus)
    shape = {"folder": str(folder)}
    recipe = Recipe.from_values({**TINY, "model": shape}, (f"train.initialise_from={folder}", "train.ema.every=0"))
    train(recipe, tmp_path / "run", corpus=corpus)
    found = losses(tmp_path / "run")
    assert found[-1] < found[0]
    assert load(tmp_path / "run" / "model").config.attention_bias


def test_the_recipe_reads_texts_by_tokenizers_of_other_models(tmp_path: Path) -> None:
    words = foreign.smollm(tmp_path / "words", 400)
    (tmp_path / "text.txt").write_text("\n\n".join(f"{text} {n}" for n in range(60) for text in foreign.TEXTS))
    source = f'[{{kind = "folder", path = "{tmp_path / "text.txt"}", licence = "mine"}}]'
    recipe = Recipe.load(
        shipped_recipes()["upcycled-healing"],
        ["model.preset=laptop-4", f"corpus.tokenizer={words}", f"corpus.sources={source}"],
    )
    build_corpus(recipe.corpus, tmp_path / "corpus")
    assert (tmp_path / "corpus" / "train-00000.bin").stat().st_size


def test_a_chat_model_can_be_talked_to_after_a_run(tmp_path: Path) -> None:
    """Its template lies in a file of its own, as in newer folders of the hub."""
    words = foreign.smollm(tmp_path / "words", VOCABULARY)
    settings = json.loads((words / "tokenizer_config.json").read_text())
    (words / "chat_template.jinja").write_text(settings.pop("chat_template"))
    (words / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "text.txt").write_text("\n\n".join(f"{text} {n}" for n in range(60) for text in foreign.TEXTS))
    values = {
        "tokenizer": str(words),
        "sources": [{"kind": "folder", "path": str(tmp_path / "text.txt"), "licence": "mine"}],
    }
    build_corpus(CorpusConfig(**values, validation_bytes=1000, fim_rate=0.0), tmp_path / "corpus")
    assert Tokenizer(tmp_path / "corpus").settings.chat_template == Tokenizer(words).settings.chat_template
    assert "chat_template.jinja" in {entry.name for entry in Manifest.load(tmp_path / "corpus").tokenizer}


def load_tokens(corpus: Path):
    import torch

    ids = Tokenizer(corpus).encode((corpus / "validation-english.txt").read_text())
    return torch.tensor(ids[: len(ids) // 32 * 32]).view(-1, 32)
