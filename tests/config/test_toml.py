"""What is written as TOML reads back as it was."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from fathom.config.toml import to_toml

scalars = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
text_keys = st.text(min_size=1)
inline = st.dictionaries(text_keys, scalars, max_size=3)
values = scalars | st.lists(scalars, max_size=3) | st.lists(inline, max_size=2)
tables = st.recursive(
    st.dictionaries(text_keys, values, max_size=4), lambda inner: st.dictionaries(text_keys, inner, max_size=3)
)


@given(tables)
def test_nested_values_survive(table: dict) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_nothing_is_left_out_but_none() -> None:
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}
