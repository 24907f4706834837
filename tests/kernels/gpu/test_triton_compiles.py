"""Triton's kernels become machine code for the GPUs that people have, within their shared memory; no GPU is needed.

Compiled in a process of its own, for in this one they may be interpreted.
"""

import importlib.util
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

COMPILE = """
import importlib, json, sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

module, name, arch, pointers, constants, warps = json.loads(sys.argv[1])
kernel = getattr(importlib.import_module(module), name)
constants = {key: getattr(tl, value) if isinstance(value, str) else value for key, value in constants.items()}
kinds = {key: "constexpr" for key in constants} | pointers
signature = {key: kinds.get(key, "i32") for key in kernel.arg_names}
places = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
options = {"num_warps": warps, "num_stages": 2}
made = triton.compile(ASTSource(kernel, signature, places), target=GPUTarget("cuda", arch, 32), options=options)
print(json.dumps({"shared": made.metadata.shared, "bytes": len(made.asm["cubin"])}))
"""
ATTENTION = "fathom.kernels.gpu.paged_attention"
PLACES = {"tables": "*i32", "lengths": "*i32", "starts": "*i32", "mixed_parts": "*fp32", "log_sums": "*fp32"}
V3 = {"RANK": 512, "ROPE": 64, "BLOCK_SIZE": 16, "RANK_PADDED": 512, "ROPE_PADDED": 64, "HEADS": 16, "SEQUENCES": 64}
LLAMA = {"WIDTH": 128, "BLOCK_SIZE": 16, "WIDTH_PADDED": 128, "HEADS": 16, "SEQUENCES": 64}
LATENT = {"q": "*bf16", "store": "*bf16", "scale": "fp32", **PLACES}
GROUPED = {"q": "*bf16", "keys": "*bf16", "values": "*bf16", "scale": "fp32", **PLACES}
WIDE = {"q": "*fp32", "store": "*fp32"}
KERNELS = {
    "latent_bf16": (ATTENTION, "latent_parts", LATENT, V3 | {"KEYS": 32, "OPERAND": "bfloat16"}, 4),
    "latent_fp32": (ATTENTION, "latent_parts", LATENT | WIDE, V3 | {"KEYS": 16, "OPERAND": "float32"}, 4),
    "grouped_bf16": (ATTENTION, "grouped_parts", GROUPED, LLAMA | {"KEYS": 64, "OPERAND": "bfloat16"}, 4),
    "combine": (
        ATTENTION,
        "combine",
        {"mixed_parts": "*fp32", "log_sums": "*fp32", "out": "*bf16"},
        {"WIDTH": 512, "WIDTH_PADDED": 512, "PARTS": 32},
        4,
    ),
}
PRODUCTS, EXPERTS = "fathom.kernels.gpu.products", "fathom.kernels.gpu.experts"
X = {"x": "*bf16", "hidden": "*bf16", "levels": "*fp32", "experts": "*i64", "pairs": "*i64", "weights": "*fp32"}
PLAIN = {"data": "*bf16", "factors": "*bf16", "out": "*bf16"}
FORMATS = {
    "bf16": (PLAIN, {"FORMAT": 0, "BLOCK_ROWS": 1, "BLOCK_COLUMNS": 2048, "FACTORS": 1}),
    "int8": (PLAIN | {"data": "*i8"}, {"FORMAT": 8, "BLOCK_ROWS": 1, "BLOCK_COLUMNS": 32, "FACTORS": 64}),
    "int4": (PLAIN | {"data": "*u8"}, {"FORMAT": 4, "BLOCK_ROWS": 1, "BLOCK_COLUMNS": 32, "FACTORS": 64}),
    "fp8": (
        PLAIN | {"data": "*u8", "factors": "*fp32"},
        {"FORMAT": 1, "BLOCK_ROWS": 128, "BLOCK_COLUMNS": 128, "FACTORS": 16},
    ),
}
TILE = {"COLUMNS": 2048, "OPERAND": "bfloat16", "N": 64, "K": 64}


def pointers_of(module: str, name: str, kinds: dict[str, str]) -> dict[str, str]:
    """Those of a kernel's arguments that are addresses."""
    names = {
        "linear_tiles": ("x", "data", "factors", "levels", "out"),
        "gated_tiles": ("x", "data", "factors", "levels", "experts", "pairs", "out"),
        "down_tiles": ("hidden", "data", "factors", "levels", "experts", "pairs", "weights", "out"),
    }[name]
    return {key: (X | kinds)[key] for key in names}


for held, (kinds, layout) in FORMATS.items():
    for rows in (16, 64):
        for module, name, more in (
            (PRODUCTS, "linear_tiles", {"OUT": 1024}),
            (EXPERTS, "gated_tiles", {"CHOICES": 8, "EXPERTS": 256, "INNER": 1024}),
            (EXPERTS, "down_tiles", {"EXPERTS": 256, "OUT": 1024}),
        ):
            if (rows == 64 or held == "int4") and not (held == "bf16" and name == "linear_tiles"):
                constants = TILE | layout | more | {"M": rows}
                KERNELS[f"{name}_{held}_{rows}"] = (module, name, pointers_of(module, name, kinds), constants, 4)
SHARED_MEMORY = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10}
"""What a program may have, by architecture: A100, the consumer cards of that time, H100 (CUDA's programming guide)."""


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHARED_MEMORY)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_becomes_machine_code_that_fits(kernel: str, arch: int) -> None:
    module, name, pointers, constants, warps = KERNELS[kernel]
    told = json.dumps((module, name, arch, pointers, constants, warps))
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, told], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(done.stdout)
    assert made["bytes"] > 0
    assert made["shared"] <= SHARED_MEMORY[arch]
