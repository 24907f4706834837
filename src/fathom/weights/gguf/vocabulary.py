"""The tokenizer inside a GGUF file: out of a model folder's tokenizer.json, and back into one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import TokenType

from fathom.errors import WeightsError
from fathom.weights.gguf import sentencepiece
from fathom.weights.gguf.splits import name_of, pre_tokenizer
from fathom.weights.tokenizer_settings import ROLES, TokenizerSettings, begins_with_bos, read_settings

PREFIX = "tokenizer.ggml."
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
"""llama.cpp's names of the two kinds: bytes as printable characters, and words that begin with U+2581."""
LONG_NAMES = {"pad": "padding", "unk": "unknown"}
"""What llama.cpp calls two of the roles."""


@dataclass
class Vocabulary:
    """Everything a GGUF file says about text."""

    kind: str
    """`BYTE_LEVEL` or `SENTENCEPIECE`."""
    split: str
    """llama.cpp's name for how text is cut."""
    tokens: list[str]
    types: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    """Only with `SENTENCEPIECE`, which has them instead of merges."""
    special: dict[str, int] = field(default_factory=dict)
    """Ids by role, as tokenizer_config.json calls it: bos, eos, pad, unk; and eot, a second end."""
    begins: bool = False
    """Whether a text begins with bos."""
    chat_template: str | None = None

    def to_keys(self) -> dict[str, Any]:
        """As keys of a GGUF file."""
        keys: dict[str, Any] = {
            "model": self.kind,
            "pre": self.split,
            "tokens": self.tokens,
            "token_type": self.types,
            "add_bos_token": self.begins,
        }
        if self.kind == SENTENCEPIECE:
            keys |= {"scores": self.scores, "add_space_prefix": True}
        else:
            keys |= {"merges": self.merges}
        keys |= {f"{LONG_NAMES.get(role, role)}_token_id": number for role, number in self.special.items()}
        named = {PREFIX + key: value for key, value in keys.items()}
        return named | ({"tokenizer.chat_template": self.chat_template} if self.chat_template else {})

    @classmethod
    def from_keys(cls, fields: Mapping[str, Any], where: str) -> "Vocabulary":
        """Read the keys of a GGUF file."""
        kind = fields.get(PREFIX + "model")
        if kind not in (BYTE_LEVEL, SENTENCEPIECE):
            raise WeightsError(f"{where}: its tokenizer is of kind {kind!r}; Fathom reads 'gpt2' and 'llama'.")
        try:
            tokens = list(fields[PREFIX + "tokens"])
            types = list(fields.get(PREFIX + "token_type") or [TokenType.NORMAL] * len(tokens))
            listed = list(fields[PREFIX + ("merges" if kind == BYTE_LEVEL else "scores")])
        except KeyError as error:
            raise WeightsError(f"{where}: the key {error.args[0]} is missing; the file is incomplete.") from None
        ids = {role: fields.get(f"{PREFIX}{LONG_NAMES.get(role, role)}_token_id") for role in (*ROLES, "eot")}
        special = {role: int(number) for role, number in ids.items() if number is not None}
        if outside := [number for number in special.values() if not 0 <= number < len(tokens)]:
            raise WeightsError(f"{where}: names token {outside[0]} of {len(tokens)}; the file is damaged.")
        return cls(
            kind=str(kind),
            split=str(fields.get(PREFIX + "pre", "default")),
            tokens=tokens,
            types=types,
            merges=listed if kind == BYTE_LEVEL else [],
            scores=listed if kind == SENTENCEPIECE else [],
            special=special,
            begins=bool(fields.get(PREFIX + "add_bos_token", kind == SENTENCEPIECE)),
            chat_template=fields.get("tokenizer.chat_template"),
        )


def from_folder(folder: Path, rows: int) -> Vocabulary:
    """The vocabulary of a model folder, with a placeholder for each of the embedding's `rows` that has no token."""
    path = folder / "tokenizer.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        model, added = described["model"], described.get("added_tokens") or []
        if model.get("type") != "BPE":
            raise WeightsError(
                f"{path}: is a {model.get('type')} tokenizer, and llama.cpp's of these families are BPE."
            )
        texts: dict[int, str] = {number: token for token, number in model["vocab"].items()}
        texts |= {token["id"]: token["content"] for token in added}
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing, and a GGUF file needs its tokenizer.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a readable tokenizer ({error!r}).") from None
    if texts and max(texts) >= rows:
        raise WeightsError(
            f"{folder}: tokenizer.json gives ids up to {max(texts)}, and the model has {rows} rows. "
            "The tokenizer belongs to another model; put the right one in its place."
        )
    kinds = {token["id"]: TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED for token in added}
    is_bytes = not model.get("byte_fallback")
    settings = read_settings(folder)
    vocabulary = Vocabulary(
        kind=BYTE_LEVEL if is_bytes else SENTENCEPIECE,
        split=name_of(described.get("pre_tokenizer"), str(path)) if is_bytes else "default",
        tokens=[texts.get(number, f"[PAD{number}]") for number in range(rows)],
        types=[kinds.get(i, TokenType.NORMAL if i in texts else TokenType.UNUSED) for i in range(rows)],
        merges=merges,
        special=_special(settings, {text: number for number, text in texts.items()}, rows),
        begins=begins_with_bos(settings, described),
        chat_template=settings.chat_template,
    )
    if not is_bytes:
        sentencepiece.check(described, str(path))
        vocabulary.scores = sentencepiece.scores(vocabulary.tokens, merges)
        vocabulary.types = sentencepiece.types(vocabulary.tokens, vocabulary.types)
    return vocabulary


def write_folder(vocabulary: Vocabulary, folder: Path, where: str) -> None:
    """Write tokenizer.json and tokenizer_config.json into a model folder."""
    tokens, types = vocabulary.tokens, vocabulary.types
    kept = [number for number, kind in enumerate(types) if kind != TokenType.UNUSED]
    ordinary = {number for number in kept if types[number] in (TokenType.NORMAL, TokenType.BYTE)}
    added = [
        {"id": number, "content": tokens[number], "special": types[number] != TokenType.USER_DEFINED}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for number in kept
        if number not in ordinary
    ]
    # A reserved token stands in the vocabulary only where the numbering of the ordinary ones needs it.
    last = max(ordinary, default=-1)
    vocab = {tokens[number]: number for number in kept if number <= last or number in ordinary}
    described: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    if vocabulary.kind == SENTENCEPIECE:
        described |= sentencepiece.describe(vocab, vocabulary.scores, vocabulary.special, tokens)
    else:
        described |= _byte_level(vocabulary, vocab, where)
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": vocabulary.begins,
        "clean_up_tokenization_spaces": False,
    }
    config |= {f"{role}_token": tokens[vocabulary.special[role]] for role in ROLES if role in vocabulary.special}
    if vocabulary.chat_template:
        config["chat_template"] = vocabulary.chat_template
    for name, value in (("tokenizer.json", described), ("tokenizer_config.json", config)):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _byte_level(vocabulary: Vocabulary, vocab: dict[str, int], where: str) -> dict[str, Any]:
    processor: dict[str, Any] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": False,
        "use_regex": True,
    }
    if vocabulary.begins and "bos" in vocabulary.special:
        number = vocabulary.special["bos"]
        processor = sentencepiece.beginning(vocabulary.tokens[number], number)
    return {
        "normalizer": {"type": "NFC"} if vocabulary.split in ("qwen2", "deepseek-r1-qwen") else None,
        "pre_tokenizer": pre_tokenizer(vocabulary.split, where),
        "post_processor": processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
            "fuse_unk": False,
            "byte_fallback": False,
            # Llama 3 takes a word that is a token as it is, without merging it together.
            "ignore_merges": vocabulary.split in ("llama-bpe", "llama3", "llama-v3"),
            "vocab": vocab,
            "merges": vocabulary.merges,
        },
    }


def _special(settings: TokenizerSettings, ids: Mapping[str, int], rows: int) -> dict[str, int]:
    """Ids by role: what the tokenizer names, else what the model's configuration does; and a second end, if any."""
    found = {role: ids[text] for role, text in settings.texts.items() if text in ids}
    found = {role: number for role, number in settings.ids.items() if 0 <= number < rows} | found
    others = [number for number in settings.ends if number != found.get("eos") and 0 <= number < rows]
    return found | ({"eot": others[0]} if "eos" in found and others else {})
