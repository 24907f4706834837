"""Which tokens a structure allows next, by llguidance: masks in microseconds and no grammar compiled ahead of time."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fathom.engine.digits import DigitRun, DigitTokens
from fathom.engine.endless import is_endless
from fathom.engine.structured import StructuredOutput
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    from fathom.corpus.tokenizer import Tokenizer

REMEMBERED = 64
"""Structures that need not be read again when they are asked for again."""
# A model that is unsure writes blanks for ever: between two values there are at most so many.
BLANKS = r"[ \t\r\n]{1,32}"


class Structure:
    """How far a text has come in its structure."""

    def __init__(self, matcher: Any, digits: DigitRun | None = None) -> None:
        """`digits` is there where the text is JSON, whose numbers must end."""
        self._matcher, self._digits = matcher, digits

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing can follow."""
        return bool(self._matcher.is_stopped() and not self._matcher.is_error())

    def allowed(self) -> "NDArray[uint8]":
        """One bit a token, lowest first, of what may follow; `GenerationError` where the structure is too complex."""
        import numpy as np

        bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise GenerationError(f"structured cannot be followed any further ({_line(self._matcher.get_error())}).")
        allowed = np.frombuffer(bits, np.uint8)
        return self._digits.limited(allowed) if self._digits else allowed

    def accepts(self, tokens: Sequence[int]) -> int:
        """How many of these tokens may follow one after the other."""
        return int(self._matcher.validate_tokens(list(tokens)))

    def ahead(self) -> list[int]:
        """Tokens that spell what the structure leaves no choice about; a text may still spell it in others."""
        return [int(token) for token in self._matcher.compute_ff_tokens()]

    def push(self, token: int) -> None:
        """Take the next token, which must be an allowed one."""
        self._matcher.consume_token(token)
        if self._digits:
            self._digits.push(token)

    def pop(self, count: int) -> None:
        """Take the last `count` tokens back."""
        self._matcher.rollback(count)
        if self._digits:
            self._digits.pop(count)


class Structures:
    """Makes structures for one model's tokens."""

    def __init__(self, tokenizer: "Tokenizer", vocab_size: int, end_tokens: Sequence[int]) -> None:
        """`vocab_size` is the model's, which may be padded; one of `end_tokens` follows a text that is complete."""
        from llguidance import LLTokenizer, TokenizerWrapper

        vocabulary = _Vocabulary(tokenizer, vocab_size, end_tokens[0])
        self._digits = DigitTokens(vocabulary.tokens)
        self._tokens = LLTokenizer(TokenizerWrapper(vocabulary), eos_token=list(end_tokens))
        self._known: OrderedDict[str, Any] = OrderedDict()

    def start(self, structured: StructuredOutput) -> Structure:
        """The beginning of a structure; `GenerationError` if it is malformed, not supported or cannot be satisfied."""
        grammar = _grammar(structured)
        if grammar not in self._known:
            self._known[grammar] = self._read(grammar, structured)
        self._known.move_to_end(grammar)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return Structure(self._known[grammar].deep_copy(), DigitRun(self._digits) if structured.is_json else None)

    def _read(self, grammar: str, structured: StructuredOutput) -> Any:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokens, grammar)
        if not matcher.is_error():
            matcher.compute_bitmask()
        if "NoExtension" in matcher.get_error() or (matcher.is_stopped() and not matcher.is_error()):
            raise GenerationError(f"structured.{structured.kind} cannot be satisfied: no text at all obeys it.")
        if matcher.is_error():
            raise GenerationError(f"structured.{structured.kind} cannot be used: {_line(matcher.get_error())}.")
        return matcher


class _Vocabulary:
    """A tokenizer as llguidance reads it: bytes of each id. What has no bytes is never allowed."""

    bos_token_id = None

    def __init__(self, tokenizer: "Tokenizer", vocab_size: int, end_token: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end_token
        reserved = {token: index for token, index in tokenizer.reserved.items() if index < vocab_size}
        self.tokens = [tokenizer.decode_bytes((index,)) for index in range(vocab_size)]
        for token, index in reserved.items():
            # llguidance's mark for a token that is no text: only a grammar that names it, as <token>, may use it.
            self.tokens[index] = b"\xff" + token.encode()
        self.special_token_ids = [*reserved.values()]

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode(errors="replace"))


def _grammar(structured: StructuredOutput) -> str:
    from llguidance import LLMatcher

    if structured.regex is not None:
        return str(LLMatcher.grammar_from_regex(structured.regex))
    if structured.lark is not None:
        return str(LLMatcher.grammar_from_lark(structured.lark))
    schema = {"type": "object"} if structured.json_object else structured.json_schema
    if is_endless(schema):
        raise GenerationError(
            f"structured.{structured.kind} cannot be satisfied: what it requires contains itself, without end."
        )
    text = json.dumps(schema, separators=(",", ":"))
    try:
        return str(LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": BLANKS}))
    except ValueError as error:
        raise GenerationError(f"structured.{structured.kind} cannot be used: {_line(str(error))}.") from None


def _line(message: str) -> str:
    """The first lines of an error message, as one, without the parser's state."""
    return " ".join(message.partition("<state>")[0].split())[:300].rstrip(".")
