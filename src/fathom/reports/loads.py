"""Expert loads over a run, brought to a size that a picture can show."""

from collections.abc import Sequence
from itertools import pairwise

from fathom.config.model import ModelConfig

MOST_COLUMNS = 240


def layer_names(config: ModelConfig) -> list[str]:
    """Names of the expert layers in the order of the recorded loads, MTP modules last."""
    main = [str(index + 1) for index in range(config.num_hidden_layers) if config.is_moe_layer(index)]
    return main + (["MTP"] * config.num_nextn_predict_layers if main else [])


def relative_loads(
    records: Sequence[Sequence[Sequence[int]]], names: Sequence[str]
) -> tuple[list[list[float]], list[tuple[str, int]]]:
    """Turn records over time, each (layers, E) of tokens, into rows of load over mean load, one for each expert.

    Returns the rows and, for each layer, its name and number of rows. A layer that stood still in a record (an MTP
    module that did not run) counts as even there.
    """
    layers = min((len(record) for record in records), default=0)
    rows: list[list[float]] = []
    groups = []
    for layer in range(layers):
        experts = len(records[0][layer])
        shares = [_relative(record[layer]) for record in records]
        rows += [_binned([share[expert] for share in shares]) for expert in range(experts)]
        groups.append((names[layer] if layer < len(names) else "", experts))
    return rows, groups


def _relative(load: Sequence[int]) -> list[float]:
    total = sum(load)
    return [value * len(load) / total for value in load] if total else [1.0] * len(load)


def _binned(values: list[float]) -> list[float]:
    """The means of at most `MOST_COLUMNS` equal stretches."""
    columns = min(len(values), MOST_COLUMNS)
    edges = [round(index * len(values) / columns) for index in range(columns + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
