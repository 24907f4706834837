"""How long loading takes beside reading the same bytes, and the most memory it takes.

    python benchmarks/loading.py            # SmolLM2 and a synthetic DeepSeek-V3 of about 2 GB

Each folder is read and loaded twice in processes of their own: with its files out of the page cache as far as the
system lets a program ask for that, and with them in it. "read" is the plain reading of the files, 16 MB at a time. The
peak is of `fathom.load` above what the process held before it, over the size of the model's tensors.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import machine, show, write

from fathom.config.model import ModelConfig
from fathom.model.transformer import Transformer
from fathom.weights.folder import save
from fathom.weights.shipped import SMOLLM2, shipped_folder

READ = """
import json, sys, time
from pathlib import Path
buffer, begin = bytearray(2**24), time.perf_counter()
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
print(json.dumps({"seconds": time.perf_counter() - begin}))
"""
LOAD = """
import json, sys, time
from fathom.weights.folder import load
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
load(sys.argv[2])
open("/proc/self/clear_refs", "w").write("5")
before, begin = peak(), time.perf_counter()
model = load(sys.argv[1])
seconds = time.perf_counter() - begin
size = sum(tensor.nbytes for tensor in model.state_dict().values())
print(json.dumps({"seconds": seconds, "peak": (peak() - before) / size}))
"""
V3_LIKE: dict[str, Any] = {
    "vocab_size": 32_000, "hidden_size": 1024, "intermediate_size": 4096, "moe_intermediate_size": 512,
    "num_hidden_layers": 9, "first_k_dense_replace": 1, "num_attention_heads": 16, "q_lora_rank": 384,
    "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "n_routed_experts": 64,
    "n_shared_experts": 1, "num_experts_per_tok": 4, "n_group": 8, "topk_group": 4,
}  # fmt: skip


def main() -> None:
    """Measure, print the table, write results/loading.json."""
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        small = synthetic(V3_LIKE | {"vocab_size": 64, "num_hidden_layers": 2, "n_routed_experts": 8}, Path(name) / "s")
        folders = {
            SMOLLM2.title: shipped_folder(SMOLLM2),
            "synthetic deepseek_v3": synthetic(V3_LIKE, Path(name) / "l"),
        }
        for title, folder in folders.items():
            size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
            for cache in ("cold", "warm"):
                read, loaded = (measured(script, folder, small, cache == "cold") for script in (READ, LOAD))
                rows.append({"model": title, "bytes": size, "cache": cache, "read": read["seconds"], "load": loaded})
    columns = ["model", "GB", "page cache", "read, s", "load, s", "ratio", "peak over size"]
    cells = [
        [row["model"], f"{row['bytes'] / 1e9:.2f}", row["cache"], f"{row['read']:.2f}", f"{row['load']['seconds']:.2f}",
         f"{row['load']['seconds'] / row['read']:.1f}", f"{row['load']['peak']:.3f}"]
        for row in rows
    ]  # fmt: skip
    show("Loading", columns, cells)
    print(write("loading", {"machine": machine(torch.get_num_threads()), "rows": rows}))


def synthetic(shape: dict[str, Any], folder: Path) -> Path:
    """A bf16 model whose numbers are one block of random ones over and over: drawing them all would take longer."""
    with torch.device("meta"):
        model = Transformer(ModelConfig.validated(shape, "the synthetic model"))
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).bfloat16() * 0.02
    state = {}
    for name, tensor in model.state_dict().items():
        count = tensor.numel()
        numbers = block.repeat(-(-count // len(block)))[:count].view(tensor.shape)
        state[name] = numbers.float() if name.endswith("correction_bias") else numbers
    model.load_state_dict(state, assign=True)
    return save(model, folder, dtype=torch.bfloat16)


def measured(script: str, folder: Path, small: Path, cold: bool) -> dict[str, Any]:
    """What `script` prints in a process of its own."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            if cold:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(2**24):
                    pass
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(small)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
