"""Charts are well-formed pictures, whatever was recorded."""

import struct
import zlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.reports.chart import Chart, Level, Series, running_mean
from fathom.reports.heat_map import heat, heat_map, png
from fathom.reports.loads import MOST_COLUMNS, layer_names, relative_loads

POINTS = st.lists(
    st.tuples(st.integers(0, 10_000).map(float), st.floats(allow_nan=True, allow_infinity=True)), max_size=30
)


def picture(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{svg}</div>")


@given(POINTS, st.booleans(), st.booleans())
def test_whatever_was_recorded_the_chart_is_well_formed_and_finite(points, smooth, dots):
    series = Series("a<b", points, smooth=smooth, dots=dots)
    svg = Chart("A <title> & more", "step", "loss", [series], [Level("x", 1.0)]).svg()
    picture(svg)
    assert "nan" not in svg
    assert "inf" not in svg


def test_nothing_recorded_is_said():
    assert "Nothing was recorded" in Chart("t", "x", "y", [Series("a", [])]).svg()


def test_long_series_are_thinned_and_keep_their_last_point():
    points = [(float(step), float(step)) for step in range(100_000)]
    svg = Chart("t", "x", "y", [Series("a", points)]).svg()
    assert len(svg) < 20_000
    assert picture(svg)[0].findall("path")[-1].get("d").count("L") <= 401


def test_an_outlier_above_the_ceiling_does_not_flatten_the_rest():
    high = Chart("t", "x", "y", [Series("a", [(0, 1000.0), (1, 1.0), (2, 2.0)])], ceiling=4.0).svg()
    assert "1k" not in high


def test_smoothing_keeps_a_line_a_line():
    line = [(float(x), 2.0 * x) for x in range(500)]
    assert running_mean(line) == [pytest.approx(point) for point in line]


def test_a_pixel_picture_holds_its_pixels():
    data = png([[(1, 2, 3, 4), (5, 6, 7, 8)]])
    assert struct.unpack(">II", data[16:24]) == (2, 1)
    begin = data.index(b"IDAT") + 4
    assert zlib.decompress(data[begin:-16]) == bytes([0, 1, 2, 3, 4, 5, 6, 7, 8])


def test_an_even_load_is_clear_and_extremes_are_not():
    assert heat(1.0)[3] == 0
    assert heat(0.0)[3] == heat(2.0)[3] == heat(9.0)[3] == 255
    assert heat(0.0)[:3] != heat(2.0)[:3]


def test_a_heat_map_has_one_picture_for_each_layer():
    rows, groups = relative_loads([[[1, 3], [2, 2]], [[2, 2], [0, 0]]], ["2", "MTP"])
    assert rows == [[0.5, 1.0], [1.5, 1.0], [1.0, 1.0], [1.0, 1.0]]
    assert groups == [("2", 2), ("MTP", 2)]
    svg = heat_map("loads", rows, groups, (1.0, 2.0), "step")
    assert svg.count("data:image/png") == 2
    picture(svg)


def test_many_records_are_binned():
    rows, _ = relative_loads([[[1, 3]]] * 1000, ["1"])
    assert len(rows[0]) == MOST_COLUMNS
    assert set(rows[1]) == {1.5}


def test_no_loads_is_no_picture():
    assert relative_loads([], ["1"]) == ([], [])
    assert "Nothing was recorded" in heat_map("t", [], [], (0, 1), "step")


def test_layers_are_named_as_a_person_counts_them():
    from fathom.config.model import ModelConfig

    assert layer_names(ModelConfig.preset("laptop-4")) == ["2", "3", "4", "MTP"]
