"""Which rule and rate each parameter gets, behind one optimiser with named state."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from fathom.config.train import OptimizerConfig
from fathom.train.muon import Muon, MuonMatrix, rms_scale, spectral_scale

Role = Literal["matrix", "embedding", "head", "router", "vector"]

_GATE = re.compile(r"\.mlp\.gate\.weight$")


def role_of(name: str, parameter: nn.Parameter) -> Role:
    """What a parameter is to the optimiser, by its published name and its shape."""
    if "embed_tokens" in name:
        return "embedding"
    if name.endswith(("lm_head.weight", "shared_head.head.weight")):
        return "head"
    if _GATE.search(name):
        return "router"
    return "vector" if parameter.dim() < 2 else "matrix"


class Optimizer:
    """AdamW, or Muon with AdamW beside it, over named parameters."""

    def __init__(self, config: OptimizerConfig, named: Iterable[tuple[str, nn.Parameter]], *, fp32: bool) -> None:
        """`fp32` runs Muon's orthogonalisation in FP32 too; otherwise it runs in bf16, as published."""
        self.parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
        roles = {name: role_of(name, parameter) for name, parameter in self.parameters.items()}
        self._parts: list[torch.optim.Optimizer] = []
        if config.kind == "muon":
            chosen = {name: self.parameters[name] for name, role in roles.items() if _is_for_muon(name, role, config)}
            self._parts.append(_muon(config, chosen, fp32=fp32))
            roles = {name: role for name, role in roles.items() if name not in chosen}
        self._parts.append(_adamw(config, {name: self.parameters[name] for name in roles}, roles))
        self._peaks = [[float(group["lr"]) for group in part.param_groups] for part in self._parts]

    def step(self, factor: float, now: int = 0) -> None:
        """Update every parameter at `factor` times its peak rate; `now` counts the steps before this one."""
        for part, peaks in zip(self._parts, self._peaks, strict=True):
            if isinstance(part, Muon):
                part.now = now
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            part.step()

    def zero_grad(self) -> None:
        """Let go of all gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def reset(self) -> None:
        """Forget all moments, as if no step had been taken."""
        for part in self._parts:
            part.state.clear()

    def state_tensors(self) -> dict[str, Tensor]:
        """Every tensor of state by `<parameter>.<moment>`, created as zeros where no step has been taken yet."""
        tensors: dict[str, Tensor] = {}
        owners = {id(parameter): part for part in self._parts for parameter in _parameters_of(part)}
        for part in self._parts:
            if isinstance(part, Muon):
                part.materialise()
        for name, parameter in self.parameters.items():
            part = owners[id(parameter)]
            state = part.state[parameter]
            if not state:
                state.update(_fresh_adamw_state(parameter))
            tensors |= {f"{name}.{key}": value for key, value in state.items()}
        return tensors


def clip_gradients(gradients: list[Tensor], norm: Tensor, largest: float) -> None:
    """Scale `gradients` down in place so that their joint L2 `norm` is at most `largest`."""
    if norm.device.type == "cpu" and float(norm) <= largest:
        return
    torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))


def square_norm(gradients: list[Tensor]) -> Tensor:
    """Sum of squares of all `gradients`, in FP32, in one pass."""
    norms = torch.stack(torch._foreach_norm(gradients))
    return norms.float().square().sum()


def _is_for_muon(name: str, role: Role, config: OptimizerConfig) -> bool:
    return role == "matrix" and (config.muon_experts or ".experts." not in name)


def _parameters_of(part: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    for group in part.param_groups:
        yield from group["params"]


def _fresh_adamw_state(parameter: nn.Parameter) -> dict[str, Tensor]:
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
    }


def _adamw(
    config: OptimizerConfig, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]
) -> torch.optim.Optimizer:
    scales = {
        "matrix": 1.0,
        "embedding": config.embedding_scale,
        "head": config.head_scale,
        "router": config.router_scale,
        "vector": config.norm_scale,
    }
    groups = []
    for role, scale in scales.items():
        members = [parameter for name, parameter in parameters.items() if roles[name] == role]
        if members:
            decay = 0.0 if role == "vector" else config.weight_decay
            groups.append({"params": members, "lr": config.learning_rate * scale, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)


def _muon(config: OptimizerConfig, parameters: Mapping[str, nn.Parameter], *, fp32: bool) -> Muon:
    matrices = [
        MuonMatrix(name, parameter, stacked=2 if name.endswith("gate_up_proj") else 1)
        for name, parameter in parameters.items()
    ]
    return Muon(
        matrices,
        config.matrix_learning_rate or config.learning_rate,
        momentum=config.muon_momentum,
        weight_decay=config.weight_decay,
        scale=rms_scale if config.muon_scale == "rms" else spectral_scale,
        newton_schulz_steps=config.newton_schulz_steps,
        expert_turns=config.muon_expert_turns,
        dtype=torch.float32 if fp32 else torch.bfloat16,
    )
