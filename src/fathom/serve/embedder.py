"""Texts as vectors: a weighted mean of what the lower layers of a language model make of their tokens."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fathom.errors import GenerationError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.corpus.tokenizer import Tokenizer
    from fathom.model.transformer import Transformer

Vectors = npt.NDArray[np.float32]
BATCH, TOGETHER = 16, 8192
"""Texts that are read at once, and their tokens with padding, except that one may be longer."""
DEPTH = 2 / 5
"""Of the layers, so many are used: the middle of a network says most of a text, and its end most of the next word."""
FORM = 1
"""Changes whenever vectors of old cannot be compared with new ones."""

# On nothing in particular: what they have in common says nothing of any text.
_QUESTIONS = (
    "How do I change the oil in my car?",
    "What is the capital of a country?",
    "the rules for taking holidays",
    "When did the war end?",
    "Who wrote this book?",
    "cancel a contract before its end",
    "Why is the sky blue?",
    "how to bake bread without yeast",
    "What does this error mean?",
    "opening hours of the office",
    "Is it allowed to park here overnight?",
    "the difference between two plans",
    "How much does it cost to send a parcel abroad?",
    "find a doctor near me",
    "Which version is the newest?",
    "steps to reset a password",
    "What happens if I pay too late?",
    "a recipe for soup",
    "Can I get my money back?",
    "the history of the city",
    "How long does the battery last?",
    "install the program on another computer",
    "What are the side effects of this medicine?",
    "who is responsible for safety",
    "How tall is the highest mountain?",
    "the meaning of a word",
    "Where can I find the form?",
    "set up a meeting with the team",
    "Does the warranty cover water damage?",
    "the causes of the crisis",
    "How does a heat pump work?",
    "list of members of the board",
)


@dataclass(frozen=True)
class Embedded:
    """Some texts as vectors."""

    vectors: Vectors
    """(N, D), each of length 1, so that a product of two is their cosine similarity."""
    tokens: int
    """How many were read."""


class Embedder:
    """One model that reads texts, for all threads of a process, a batch at a time.

    A vector is the mean of a text's states after two fifths of the layers, less the mean of questions on nothing in
    particular, brought to length 1. Rare tokens weigh more: a BPE numbers its tokens by how common they are, so that
    the logarithm of the number stands in for the inverse frequency of Arora, Liang and Ma 2017 ("A simple but
    tough-to-beat baseline for sentence embeddings"), which also takes off what all texts share. A line break stands
    before each text and is left out of the mean, because the first position of a causal model collects attention and
    says nothing (Xiao et al. 2023, arXiv:2309.17453). `benchmarks/retrieval.py` measures what this is worth.
    """

    def __init__(self, name: str, model: "Transformer", tokenizer: "Tokenizer") -> None:
        """Takes `model` over and drops the layers that are not used. `WeightsError` where its states are no numbers."""
        self.name = name
        self.dimension: int = model.config.hidden_size
        self.maker = _fingerprint(model, tokenizer)
        """Another one's vectors are not to be compared with this one's."""
        self._model, self._tokenizer = lower_part(model), tokenizer
        self._before = [*tokenizer.text_start, *tokenizer.encode("\n")]
        self.longest: int = model.config.max_position_embeddings - len(self._before)
        """Tokens of a text at most."""
        self._reading = threading.Lock()
        self._centre: Vectors = np.zeros(self.dimension, np.float32)
        self._centre = self._states(self.encode(_QUESTIONS)).mean(0)

    @classmethod
    def load(cls, folder: Path) -> "Embedder":
        """The model in `folder`, in bfloat16, on a GPU where there is one; raises `WeightsError` and `CorpusError`."""
        import torch

        from fathom.corpus.tokenizer import Tokenizer
        from fathom.parallel.device import best_device
        from fathom.weights.load import load

        name = folder.resolve().name if folder.name != "model" else folder.resolve().parent.name
        return cls(name, load(folder, torch.bfloat16, best_device(), mtp=False), Tokenizer(folder))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, whole."""
        return self._tokenizer.encode_batch(texts)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors (N, D) of length 1, of the beginnings of texts that are too long. Raises as `embed_tokens` does."""
        return self.embed_tokens([tokens[: self.longest] for tokens in self.encode(texts)]).vectors

    def embed_tokens(self, texts: Sequence[Sequence[int]]) -> Embedded:
        """The same for texts in tokens, one at least and `longest` at most; `WeightsError` for a vector of no number.

        `GenerationError` for a text that cannot be read.
        """
        for tokens in texts:
            self._check(tokens)
        moved = self._states(texts) - self._centre
        return Embedded(moved / np.linalg.norm(moved, axis=1, keepdims=True), sum(map(len, texts)))

    def _check(self, tokens: Sequence[int]) -> None:
        if not 0 < len(tokens) <= self.longest:
            raise GenerationError(
                f"A text to embed has {len(tokens)} tokens; {self.name} reads from 1 to {self.longest}."
            )
        outside = next((token for token in tokens if not 0 <= token < self._model.config.vocab_size), None)
        if outside is not None:
            last = self._model.config.vocab_size
            raise GenerationError(f"A text to embed holds token {outside}; {self.name}'s vocabulary ends at {last}.")

    def _states(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """Weighted means of states (N, D); texts of like length are read together."""
        states = np.empty((len(texts), self.dimension), np.float32)
        waiting = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        while waiting:
            # The longest first: it says how many fit beside it.
            count = min(BATCH, max(TOGETHER // len(texts[waiting[-1]]), 1))
            waiting, some = waiting[:-count], waiting[-count:]
            with self._reading:
                states[some] = self._read([texts[number] for number in some])
        broken = int((~np.isfinite(states).all(1)).sum())
        if broken:
            raise WeightsError(
                f"{self.name} gives vectors of NaN or infinity for {broken} of {len(texts)} texts: its weights are "
                "damaged, or too large for bfloat16. Name another model with --embeddings."
            )
        return states

    def _read(self, texts: Sequence[Sequence[int]]) -> Vectors:
        import torch

        start = len(self._before)
        S = start + max(map(len, texts))
        # Padding on the right needs no mask: no token of a text looks at what follows it.
        tokens = torch.zeros(len(texts), S, dtype=torch.int64)
        weights = torch.zeros(len(texts), S)
        for row, text in enumerate(texts):
            tokens[row, : start + len(text)] = torch.tensor([*self._before, *text])
            weights[row, start : start + len(text)] = torch.tensor([math.log(2 + token) for token in text])
        with torch.inference_mode():
            hidden = self._model.trunk(tokens.to(self._model.model.embed_tokens.weight.device)).hidden.float().cpu()
            mean: Tensor = torch.einsum("bs,bsd->bd", weights / weights.sum(1, keepdim=True), hidden)
        found: Vectors = mean.numpy()
        return found


def lower_part(model: "Transformer") -> "Transformer":
    """Cut `model` down, in place, to the layers whose states are used, without final norm and head; returns it."""
    from torch import nn

    layers = max(round(model.config.num_hidden_layers * DEPTH), 1)
    model.model.layers = model.model.layers[:layers]
    model.model.norm = nn.Identity()  # type: ignore[assignment]
    if not model.config.tie_word_embeddings:
        del model.lm_head
    model.config = model.config.model_copy(update={"num_hidden_layers": layers, "num_nextn_predict_layers": 0})
    return model


def _fingerprint(model: "Transformer", tokenizer: "Tokenizer") -> bytes:
    """The same for the same weights, tokens and form of vectors; in no other case."""
    from fathom.engine.fingerprint import places

    seen = blake2b(f"{FORM} {model.config.model_dump_json()}".encode(), digest_size=16)
    seen.update(tokenizer.path.read_bytes())
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        seen.update(f"{name} {tuple(parameter.shape)}".encode())
        seen.update(flat[places(flat.numel()).to(flat.device)].float().cpu().numpy().tobytes())
    return seen.digest()
