"""Conversions pass no NaN and no infinity on, and make none."""

import torch
from torch import Tensor

from fathom.errors import WeightsError
from fathom.weights.fill import is_finite
from fathom.weights.shards import Planned


def finite(tensor: Tensor, name: str, where: str) -> Tensor:
    """`tensor` as it is; `WeightsError` if a number of it is not finite."""
    if not is_finite(tensor):
        raise WeightsError(
            f"{where}: {name} holds NaN or infinity. The run that wrote it had diverged, or the file is damaged."
        )
    return tensor


def fits(tensor: Tensor, name: str, where: str, dtype: torch.dtype) -> Tensor:
    """`tensor` in `dtype`; `WeightsError` if a number of it is not finite, or too large for `dtype`."""
    made = finite(tensor, name, where).to(dtype)
    if made.dtype != tensor.dtype and not is_finite(made):
        largest = torch.finfo(dtype).max
        raise WeightsError(
            f"{where}: {name} holds numbers beyond {largest:g}, the largest of {str(dtype).removeprefix('torch.')}. "
            "Convert to bf16, which holds them."
        )
    return made


def checked(planned: Planned, where: str) -> Planned:
    """`planned`, whose tensor is looked at when it is made."""
    return planned._replace(make=lambda: fits(planned.make(), planned.name, where, planned.dtype))
