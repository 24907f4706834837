"""Published tensor names and ours. They are the same but for experts, published one by one and stacked here."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from fathom.config.model import ModelConfig

Part = tuple[int | slice, ...]


class Place(NamedTuple):
    """Where a published tensor stands: in our tensor `name`, at the `part` of it."""

    name: str
    part: Part


def places(state: Mapping[str, Tensor]) -> dict[str, Place]:
    """The place of every published tensor in our `state` (of which only shapes are looked at)."""
    found: dict[str, Place] = {}
    for name, tensor in state.items():
        prefix, _, kind = name.rpartition(".")
        if prefix.endswith(".experts") and kind == "gate_up_proj":
            inner = tensor.shape[1] // 2
            for expert in range(tensor.shape[0]):
                found[f"{prefix}.{expert}.gate_proj.weight"] = Place(name, (expert, slice(0, inner)))
                found[f"{prefix}.{expert}.up_proj.weight"] = Place(name, (expert, slice(inner, 2 * inner)))
        elif prefix.endswith(".experts") and kind == "down_proj":
            for expert in range(tensor.shape[0]):
                found[f"{prefix}.{expert}.down_proj.weight"] = Place(name, (expert,))
        else:
            found[name] = Place(name, ())
    return found


def repeated(config: ModelConfig) -> dict[str, str]:
    """Tensors that published MTP layers hold again, and our name of the one they repeat."""
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    names: dict[str, str] = {}
    for k in range(config.num_nextn_predict_layers):
        prefix = f"model.layers.{config.num_hidden_layers + k}"
        names[f"{prefix}.embed_tokens.weight"] = "model.embed_tokens.weight"
        names[f"{prefix}.shared_head.head.weight"] = head
    return names


def published(state: Mapping[str, Tensor], config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Every published tensor, as a view into our `state`; MTP layers repeat embedding and head, as DeepSeek's do."""
    for name, place in places(state).items():
        yield name, state[place.name][place.part]
    for name, original in repeated(config).items():
        yield name, state[original]
