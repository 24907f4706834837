"""Stop strings end a text at the same place however its pieces are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fathom.engine.stop import StopScanner

TEXT = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: the text ends when a stop string is complete, before the longest one that is."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(TEXT, STOPS, st.lists(st.integers(0, 30), max_size=8))
def test_the_cut_of_the_pieces_changes_nothing(text, stops, cuts):
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    scanner = StopScanner(stops)
    shown = "".join(scanner.feed(text[a:b]) for a, b in pairwise(borders)) + scanner.flush()
    assert (shown, scanner.stopped) == expected(text, stops)


def test_text_that_may_begin_a_stop_string_is_held_back_until_it_is_known():
    scanner = StopScanner(["<end>"])
    assert scanner.feed("ready <e") == "ready "
    assert scanner.feed("gg>") == "<egg>"


def test_without_stop_strings_everything_passes_at_once():
    assert StopScanner([]).feed("anything") == "anything"


def test_nothing_follows_a_stop():
    scanner = StopScanner(["."])
    assert scanner.feed("One. Two") == "One"
    assert scanner.feed(" three") == ""
    assert scanner.flush() == ""
