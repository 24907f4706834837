"""DeepSeek's FP8 weights: E4M3 values in blocks, each block with one FP32 factor in `weight_scale_inv`."""

from typing import Any

import torch
from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.errors import WeightsError

SCALE = "_scale_inv"


def block_size(config: ModelConfig, where: str) -> tuple[int, int] | None:
    """Rows and columns of a block, or None if the folder is not quantised; `WeightsError` for other quantisations."""
    settings: dict[str, Any] | None = config.extra.get("quantization_config")
    if settings is None:
        return None
    size = settings.get("weight_block_size")
    if settings.get("quant_method") != "fp8" or not isinstance(size, list) or len(size) != 2:
        raise WeightsError(
            f"{where}: quantised by {settings.get('quant_method')!r} with blocks {size}; Fathom reads full-precision "
            "weights and DeepSeek's FP8 blocks ('fp8' with a weight_block_size of two numbers)."
        )
    return int(size[0]), int(size[1])


def without_quantisation(config: ModelConfig) -> ModelConfig:
    """The configuration of the network as it stands in memory, dequantised."""
    extra = {key: value for key, value in config.extra.items() if key != "quantization_config"}
    return config.model_copy(update={"extra": extra})


def dequantise(values: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    """FP32 weights (R, C) of E4M3 `values` (R, C): each block times its `scale` (R / rows, C / columns, rounded up)."""
    rows, columns = size
    wide = scale.float().repeat_interleave(rows, 0)[: values.shape[0]]
    return values.to(torch.float32) * wide.repeat_interleave(columns, 1)[:, : values.shape[1]]
