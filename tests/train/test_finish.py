"""What a quick evaluation reads of the held-out text."""

import numpy as np
import pytest

from fathom.train.finish import STRETCHES, stretches


@pytest.mark.parametrize("length", [8, 81, 1000])
def test_a_quick_evaluation_reads_from_all_over_the_text(length: int) -> None:
    text = np.arange(10_000)
    read = stretches(text, length)  # type: ignore[arg-type]
    assert len(read) == length
    eighths = np.unique(read * STRETCHES // len(text))
    assert eighths[0] == 0
    assert eighths[-1] == STRETCHES - 1


def test_neighbouring_tokens_stay_together() -> None:
    read = stretches(np.arange(10_000), 400)  # type: ignore[arg-type]
    assert (np.diff(read) == 1).mean() > 0.98
