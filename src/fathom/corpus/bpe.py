"""Training a byte-level BPE with DeepSeek's pre-tokenisation, and writing it as a Hugging Face tokenizer."""

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from fathom.corpus import special_tokens

DIGITS = r"\p{N}{1,3}"
"""Numbers fall into groups of at most three digits."""

IDEOGRAPHS_AND_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
"""Chinese and Japanese runs stand apart from what surrounds them."""

WORDS_AND_MARKS = "|".join(
    (
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+""",  # a mark glued to a word: .append, 'll
        "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",  # a word with the space before it
        " ?[\\p{P}\\p{S}]+[\r\n]*",  # marks with the line ends that follow
        "\\s*[\r\n]+",  # blank lines
        r"\s+(?!\S)",  # spaces before a line's end
        r"\s+",
    )
)


def deepseek_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """DeepSeek-V3's three splits, then bytes as printable characters."""
    splits = [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        for pattern in (DIGITS, IDEOGRAPHS_AND_KANA, WORDS_AND_MARKS)
    ]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train_bpe(texts: Iterable[str], vocab_size: int, *, length: int | None = None) -> Tokenizer:
    """Learn merges from `texts` until the vocabulary, reserved tokens included, has exactly `vocab_size` entries.

    The layout is DeepSeek-V3's: three reserved tokens, bytes and merges, then the other reserved tokens. Where the text
    gives fewer merges than asked, placeholders fill the gap.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = deepseek_pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special_tokens.LAST),
        special_tokens=[_reserved(token) for token in special_tokens.FIRST],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_batched(texts), trainer, length=length)
    missing = vocab_size - len(special_tokens.LAST) - tokenizer.get_vocab_size()
    fillers = [special_tokens.placeholder(number) for number in range(missing)]
    tokenizer.add_tokens([_reserved(token) for token in (*fillers, *special_tokens.LAST)])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and the tokenizer_config.json that makes transformers' AutoTokenizer load it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tokenizer_config(folder)


def write_tokenizer_config(folder: Path) -> None:
    """Name the special tokens and write the chat template in DeepSeek-V3's format."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special_tokens.BEGIN_OF_SENTENCE,
        "eos_token": special_tokens.END_OF_SENTENCE,
        "pad_token": special_tokens.PAD,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 163_840,
        "chat_template": chat_template(),
    }
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def chat_template() -> str:
    """The Jinja template of DeepSeek-V3's chat format: no line breaks between turns, thoughts of the past left out."""
    return resources.files("fathom.corpus").joinpath("chat_template.jinja").read_text(encoding="utf-8").strip()


def _reserved(token: str) -> AddedToken:
    return AddedToken(token, special=token in special_tokens.HIDDEN, normalized=False)


def _batched(texts: Iterable[str], size: int = 256) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch
