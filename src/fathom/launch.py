"""Settings of the process that must stand before torch, and with it OpenMP, is loaded: threads and memory.

The command line calls `prepare_process` first of all. A program that uses Fathom as a library may do the same, before
it imports torch. Whatever the user has set already is left as it is.
"""

import os
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path

from fathom.kernels.memory import keep_freed_memory

SPIN_COUNT = 50_000
"""How often an idle OpenMP thread looks for new work before it sleeps (GNU's `GOMP_SPINCOUNT`).

Endless spinning starves a busy neighbour on the same cores, and sleeping at once makes every small operation wait for a
wake-up. A bounded spin lies between: long enough to bridge the gap between two operations, short enough to give way.
"""

TOPOLOGY = Path("/sys/devices/system/cpu")
CONTROL_GROUPS = Path("/sys/fs/cgroup")


def prepare_process(keep_memory: bool = True) -> None:
    """Choose threads, and keep freed memory in the process, which a training step on a CPU gains much from."""
    prepare_threads()
    if keep_memory:
        keep_freed_memory()


def prepare_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Choose the number of threads and how they wait, unless the environment already says."""
    if "OMP_NUM_THREADS" not in environment:
        neighbours = max(int(environment.get("LOCAL_WORLD_SIZE", "1")), 1)
        environment["OMP_NUM_THREADS"] = str(max(usable_cores() // neighbours, 1))
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


def usable_cores() -> int:
    """Physical cores this process may run on, within its CPU affinity and its control group's quota."""
    logical = _affinity()
    cores = _physical(logical) if logical else _cores_without_affinity()
    quota = _quota()
    return max(min(cores, int(quota)) if quota is not None else cores, 1)


def _affinity() -> set[int] | None:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _physical(logical: set[int], topology: Path = TOPOLOGY) -> int:
    """Count each set of sibling hyper-threads once."""
    siblings = set()
    for cpu in logical:
        try:
            siblings.add((topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip())
        except OSError:
            return len(logical)
    return len(siblings)


def _cores_without_affinity() -> int:
    if sys.platform == "darwin":
        try:
            return int(subprocess.check_output(["sysctl", "-n", "hw.physicalcpu"], text=True))
        except (OSError, ValueError, subprocess.SubprocessError):
            pass
    return os.cpu_count() or 1


def _quota(root: Path = CONTROL_GROUPS, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors' worth of time the control group allows (versions 2 and 1), or None without a limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += [_quota_v2(folder / "cpu.max") for folder in _upwards(root, path)]
        elif "cpu" in controllers.split(","):
            base = root / "cpu" if (root / "cpu").is_dir() else root / controllers
            limits += [_quota_v1(folder) for folder in _upwards(base, path)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _upwards(root: Path, path: str) -> list[Path]:
    """The group's own folder and those above it: a quota anywhere on the way binds."""
    folder = root / path.strip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _quota_v2(file: Path) -> float | None:
    try:
        quota, period = file.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
