"""What a native call that guesses is told of the sequences, and what it says."""

import ctypes
import math
from array import array
from collections.abc import Sequence as Many

from fathom.engine.chunks import Chunk
from fathom.engine.judge import most_guesses
from fathom.engine.request import Sequence
from fathom.kernels import native
from fathom.kernels.decode.program import Drafting


class NativeDrafts:
    """Guesses for n sequences, at most `longest` for each; all of them must be `SamplingState.plain`."""

    def __init__(self, longest: int, sequences: Many[Sequence], chunks: Many[Chunk], block_size: int) -> None:
        """For those of the sequences of `chunks` that guess."""
        n = len(sequences)
        self._longest, self._sequences = longest, sequences
        places = {chunk.sequence: place for place, chunk in enumerate(chunks)}
        most, wholes, reals = array("q"), array("q"), array("d")
        for sequence in sequences:
            state, params = sequence.state, sequence.request.params
            assert state is not None
            # A guess is read at the place of the row behind it, for which there must be a block.
            room = len(sequence.table) * block_size - sequence.computed + 1
            most.append(min(most_guesses(sequence, longest), room))
            for place in range(longest):
                wholes.append(state.key(place) if params.temperature else 0)
                wholes.append(params.top_k)
            reals.extend((params.temperature, params.min_p, params.top_p))
        self._guesses, self._made = array("q", bytes(8 * n * longest)), array("q", bytes(8 * n))
        self._logprobs = array("f", [math.nan]) * (n * longest)
        indices = array("q", [places[sequence] for sequence in sequences])
        library = native.library()
        assert library is not None
        asked = self.asked = Drafting(longest=longest, draw=ctypes.cast(library.draw_f32, ctypes.c_void_p))
        asked.sequences, asked.most = indices.buffer_info()[0], most.buffer_info()[0]
        asked.wholes, asked.reals = wholes.buffer_info()[0], reals.buffer_info()[0]
        asked.guesses, asked.logprobs = self._guesses.buffer_info()[0], self._logprobs.buffer_info()[0]
        asked.made = self._made.buffer_info()[0]
        self._kept = (indices, most, wholes, reals)

    def made(self, n: int) -> tuple[list[int], list[float]]:
        """Guesses of the n-th sequence and how sure they are, up to one that ends it."""
        begin = n * self._longest
        count, stops = self._made[n], self._sequences[n].stops
        guesses = self._guesses[begin : begin + count].tolist()
        for place, guess in enumerate(guesses):
            if guess in stops:
                count = place + 1
                break
        confidences = [math.exp(logprob) for logprob in self._logprobs[begin : begin + count]]
        return guesses[:count], confidences

    def drawn(self) -> list[float]:
        """How sure every guess was, those included that were not kept."""
        return [math.exp(logprob) for logprob in self._logprobs if logprob == logprob]
