"""Builds and calls the C++ kernels beside this file, where the machine has a C++ compiler with OpenMP.

The library is compiled once (about three seconds) into the user's cache and found there afterwards. Without a compiler,
or with FATHOM_NATIVE=0, every kernel uses its PyTorch form: the same results to rounding, more slowly.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from fathom.cache import cache_folder

FOLDER = Path(__file__).parent
# Sums may be reordered, which vectorising them needs; infinities and NaN keep their meaning.
FLAGS = ["-O3", "-march=native", "-fopenmp", "-fPIC", "-std=c++17"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]
STORAGE = {torch.float32: "f32", torch.bfloat16: "bf16"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, built if need be; None where they cannot be built."""
    return build("kernels", FOLDER, FLAGS)


def build(name: str, folder: Path, flags: list[str]) -> ctypes.CDLL | None:
    """The library of a folder's sources, compiled unless it was before; None where that is not possible."""
    compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
    if os.environ.get("FATHOM_NATIVE") == "0" or compiler is None:
        return None
    sources = sorted(folder.glob("*.cpp"))
    headers = {*FOLDER.glob("*.h"), *folder.glob("*.h")}
    texts = [file.read_text(encoding="utf-8") for file in (*sources, *sorted(headers))]
    key = hashlib.sha256("\0".join((*texts, *flags, compiler, _processor())).encode()).hexdigest()[:16]
    built = cache_folder() / "native" / f"{name}-{key}.so"
    try:
        if not built.exists():
            _compile(compiler, flags, sources, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(compiler: str, flags: list[str], sources: list[Path], target: Path) -> None:
    """Compile beside the target and rename, so that processes that build at once never see half a library.

    Each source has a compiler of its own, all at once.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        out = Path(folder) / target.name
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        commands = [[compiler, *flags, "-c", str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, commands))
        _run([compiler, *flags, "-shared", *map(str, objects), "-o", str(out)])
        out.replace(target)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def usable(*tensors: Tensor) -> bool:
    """Whether the native kernels take these tensors: on the CPU, one storage type between them, library at hand."""
    first = tensors[0]
    return (
        first.dtype in STORAGE
        and all(tensor.device.type == "cpu" and tensor.dtype == first.dtype for tensor in tensors)
        and library() is not None
    )


def offers(name: str, storage: torch.dtype) -> bool:
    """Whether the library has kernel `name` for this storage type: some need what not every processor has."""
    loaded = library()
    return loaded is not None and hasattr(loaded, f"{name}_{STORAGE[storage]}")


def call(name: str, storage: torch.dtype | None, *arguments: Tensor | int | float | None) -> None:
    """Run kernel `name` for this storage type, if it has any. Tensors must be contiguous and outlive the call."""
    loaded = library()
    assert loaded is not None
    loaded[name if storage is None else f"{name}_{STORAGE[storage]}"](*(_pass(argument) for argument in arguments))


def _pass(argument: Tensor | int | float | None) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_float:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return ctypes.c_void_p(None) if argument is None else ctypes.c_int64(argument)
