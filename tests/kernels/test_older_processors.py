"""The decode program's sources compile for processors that lack this machine's instructions."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from fathom.kernels.decode import program

SOURCES = sorted(Path(program.__file__).parent.glob("*.cpp"))


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_the_sources_compile(processor: str) -> None:
    if shutil.which("c++") is None or platform.machine() != "x86_64":
        pytest.skip("needs a C++ compiler for x86-64")
    flags = [f"-march={processor}" if flag.startswith("-march") else flag for flag in program.FLAGS]
    for source in SOURCES:
        made = subprocess.run(["c++", *flags, "-S", "-o", "/dev/null", str(source)])
        assert made.returncode == 0, source.name
