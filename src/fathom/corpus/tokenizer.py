"""Text to token ids and back, over a tokenizer.json of DeepSeek's layout."""

import codecs
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers

from fathom.corpus import special_tokens
from fathom.errors import CorpusError, UsageError


class Tokenizer:
    """A byte-level BPE: every string has ids, and ids give back exactly the bytes they came from."""

    def __init__(self, folder: str | Path) -> None:
        """Read tokenizer.json from `folder`, a corpus or a model folder."""
        self.path = Path(folder) / "tokenizer.json"
        try:
            description = json.loads(self.path.read_text(encoding="utf-8"))
            self._with_reserved = tokenizers.Tokenizer.from_file(str(self.path))
            # Without its added tokens the same model reads "<think>" in a document as the seven characters that it is.
            self._plain = tokenizers.Tokenizer.from_str(json.dumps({**description, "added_tokens": []}))
        except FileNotFoundError:
            raise CorpusError(f"{self.path} is missing: name a folder that holds a tokenizer.json.") from None
        except Exception as error:  # the library raises bare Exception for anything it cannot read
            raise CorpusError(f"{self.path} is not a readable tokenizer ({error}): restore or rebuild it.") from None
        self.vocab_size: int = self._with_reserved.get_vocab_size(with_added_tokens=True)

    @cached_property
    def bos_id(self) -> int:
        """Begin of sentence: what a chat prompt starts with."""
        return self.reserved_id(special_tokens.BEGIN_OF_SENTENCE)

    @cached_property
    def eos_id(self) -> int:
        """End of sentence: the separator of documents and the end of an answer."""
        return self.reserved_id(special_tokens.END_OF_SENTENCE)

    @cached_property
    def pad_id(self) -> int:
        """Fills the unused places of a batch."""
        return self.reserved_id(special_tokens.PAD)

    @cached_property
    def fim_begin_id(self) -> int:
        """Stands before the prefix of a rearranged document."""
        return self.reserved_id(special_tokens.FIM_BEGIN)

    @cached_property
    def fim_hole_id(self) -> int:
        """Stands between prefix and suffix, where the middle is missing."""
        return self.reserved_id(special_tokens.FIM_HOLE)

    @cached_property
    def fim_end_id(self) -> int:
        """Stands after the suffix; the middle follows."""
        return self.reserved_id(special_tokens.FIM_END)

    def reserved_id(self, token: str) -> int:
        """The id of a reserved token by its spelling (see `special_tokens`)."""
        found = self._with_reserved.token_to_id(token)
        if found is None:
            raise CorpusError(f"{self.path} has no token '{token}': use a tokenizer of DeepSeek's layout.")
        return int(found)

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as plain text: a reserved token's spelling inside it has no power."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many plain texts at once, on as many threads as the machine has."""
        try:
            encodings = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            raise UsageError("text with a lone surrogate is not Unicode text: mend its decoding first.") from None
        return [encoding.ids for encoding in encodings]

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a rendered prompt: reserved tokens spelled in it become their ids."""
        try:
            return list(self._with_reserved.encode(text, add_special_tokens=False).ids)
        except (TypeError, UnicodeEncodeError):
            raise UsageError("text with a lone surrogate is not Unicode text: mend its decoding first.") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, without hidden tokens and unused ids; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of `ids`, without hidden tokens."""
        table = self._bytes_of_token
        return b"".join(table[token] for token in ids if token < len(table))

    def stream_decoder(self) -> "StreamDecoder":
        """A decoder for tokens that arrive one by one."""
        return StreamDecoder(self._bytes_of_token)

    @cached_property
    def _bytes_of_token(self) -> list[bytes]:
        """The bytes of each id; none for hidden tokens, placeholders and gaps in the numbering."""
        byte_of_character = {character: byte for byte, character in enumerate(_printable_bytes())}
        table = [b""] * (max(self._with_reserved.get_vocab().values(), default=-1) + 1)
        added = self._with_reserved.get_added_tokens_decoder()
        for token, index in self._with_reserved.get_vocab(with_added_tokens=True).items():
            if index not in added:
                table[index] = bytes(byte_of_character[character] for character in token)
            elif not added[index].special:
                table[index] = token.encode("utf-8")
        return table


class StreamDecoder:
    """Turns tokens into text as they come, holding back the bytes of a character that is not yet complete."""

    def __init__(self, bytes_of_token: Sequence[bytes]) -> None:
        self._bytes_of_token = bytes_of_token
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that `token` completes, often empty inside a Chinese character or an emoji."""
        known = token < len(self._bytes_of_token)
        return self._decoder.decode(self._bytes_of_token[token]) if known else ""

    def finish(self) -> str:
        """What remains when no token follows: nothing, or U+FFFD for an incomplete character."""
        return self._decoder.decode(b"", final=True)


def _printable_bytes() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    table, shifted = [], 256
    for byte in range(256):
        if byte in printable:
            table.append(chr(byte))
        else:
            table.append(chr(shifted))
            shifted += 1
    return table
