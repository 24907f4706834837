"""MTP modules compute what transformers' own do, and its speculative decoding runs on folders saved here."""

from pathlib import Path

import pytest
import torch
from peers import peer_of, widened
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import MtpModel

from fathom.model.transformer import Transformer
from fathom.weights.folder import save
from small import V3, YARN, random_tokens, small_config, small_model


def mtp_peer(model: Transformer) -> tuple[torch.nn.Module, MtpModel]:
    """transformers' main model and MTP modules with our weights."""
    peer = peer_of(model)
    first, count = model.config.num_hidden_layers, model.config.num_nextn_predict_layers
    modules = MtpModel(peer, count).to(model.compute_dtype)
    own = {"enorm.weight": "enorm.weight", "hnorm.weight": "hnorm.weight", "eh_proj.weight": "eh_proj.weight"}
    own["shared_head.norm.weight"] = "post_norm.weight"
    for k in range(count):
        state = model.model.layers[first + k].state_dict()
        renamed = {own.get(name, f"mtp_block.{name}"): tensor for name, tensor in state.items()}
        modules.layers[k].load_state_dict(renamed)
    return peer, modules


@pytest.mark.parametrize("changes", [{}, {"q_lora_rank": 10, "rope_scaling": YARN}], ids=["plain", "yarn"])
def test_each_depth_agrees_with_transformers(changes: dict[str, object]) -> None:
    """The hidden state comes from after the final norm, the embedding half first, the depths chain after their norm.

    transformers counts the modules' positions from one; only differences of positions matter, so both agree.
    """
    model = small_model(small_config(V3, num_nextn_predict_layers=3, **changes), dtype=torch.float64)
    tokens = random_tokens(model, length=12)
    ours = model(tokens, depths=3)
    with widened(model.config):
        peer, modules = mtp_peer(model)
        hidden = peer.model(tokens).last_hidden_state
        for k in range(1, 4):
            following = tokens[:, k:]
            hidden = hidden[:, : following.shape[1]]
            positions = torch.arange(k, 12)[None]
            hidden = modules.forward_layer(k - 1, hidden, positions, None, input_ids=following)
            theirs = peer.lm_head(hidden)
            # Angles are FP32, and theirs are of other positions with the same differences.
            torch.testing.assert_close(ours.mtp_logits[k - 1], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_transformers_drafts_with_the_mtp_module_of_a_folder_saved_here(tmp_path: Path) -> None:
    """Its pattern for MTP weights is written for layer 61 alone, V3's own; so this small model has 61 layers."""
    config = small_config(V3, num_hidden_layers=61, first_k_dense_replace=58, initializer_range=0.1)
    model = small_model(config)
    save(model, tmp_path / "model")
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    modules = MtpModel.from_pretrained(peer)
    tokens = random_tokens(model, batch=1, length=12)
    hidden = modules.forward_layer(
        0, peer.model(tokens).last_hidden_state[:, :-1], torch.arange(1, 12)[None], None, input_ids=tokens[:, 1:]
    )
    torch.testing.assert_close(peer.lm_head(hidden), model(tokens, depths=1).mtp_logits[0], rtol=1e-3, atol=1e-3)
