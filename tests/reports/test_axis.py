"""Axes have round ticks and keep everything on the page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.reports.axis import short, spanning

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20)


@given(VALUES, st.booleans())
def test_every_value_lies_on_the_axis_and_in_order(values, zero):
    axis = spanning(values, 0, 100, zero=zero)
    places = [axis.place(value) for value in sorted(values)]
    assert all(0 <= place <= 100 for place in places)
    assert places == sorted(places)


@given(VALUES)
def test_ticks_are_few_round_and_within(values):
    axis = spanning(values, 0, 100)
    ticks = axis.ticks(5)
    assert len(ticks) <= 7
    span = axis.high - axis.low
    assert all(axis.low - span * 1e-6 <= tick <= axis.high + span * 1e-6 for tick in ticks)


def test_ticks_are_what_a_person_would_choose():
    assert spanning([0, 10], 0, 1, room=0).ticks(5) == [0, 2, 4, 6, 8, 10]
    assert spanning([0, 1], 0, 1, room=0).ticks(4) == [0, 0.25, 0.5, 0.75, 1.0]


def test_one_value_or_none_still_makes_an_axis():
    assert spanning([3.0], 0, 1).low < 3 < spanning([3.0], 0, 1).high
    assert spanning([float("nan")], 0, 1).high == pytest.approx(1.05)


@pytest.mark.parametrize(("value", "text"), [(1500, "1.5k"), (2e6, "2M"), (0.25, "0.25"), (0, "0"), (-3e9, "-3G")])
def test_numbers_are_written_briefly(value, text):
    assert short(value) == text
