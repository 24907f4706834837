"""Threads are chosen from what the machine grants, and never against what the user has set."""

import subprocess
import sys

import pytest

from fathom import launch


def test_threads_and_spinning_are_set_where_nothing_was():
    environment: dict[str, str] = {}
    launch.prepare_threads(environment)
    assert environment == {"OMP_NUM_THREADS": str(launch.usable_cores()), "GOMP_SPINCOUNT": str(launch.SPIN_COUNT)}


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_user_set_stays(chosen):
    environment = {"OMP_NUM_THREADS": "3", **chosen}
    launch.prepare_threads(environment)
    assert environment == {"OMP_NUM_THREADS": "3", **chosen}


def test_processes_on_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    environment = {"LOCAL_WORLD_SIZE": "4"}
    launch.prepare_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "2"


def test_hyper_threads_of_one_core_count_once(tmp_path):
    for cpu in range(4):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    assert launch._physical({0, 1, 2, 3}, tmp_path) == 2
    assert launch._physical({0, 2}, tmp_path) == 1


@pytest.mark.parametrize(("quota", "expected"), [("150000 100000", 1.5), ("max 100000", None)])
def test_a_control_groups_quota_is_read(tmp_path, quota, expected):
    (tmp_path / "cgroup").write_text("0::/outer/inner\n")
    (tmp_path / "fs" / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "fs" / "outer" / "cpu.max").write_text(quota)
    assert launch._quota(tmp_path / "fs", tmp_path / "cgroup") == expected


def test_an_older_control_groups_quota_is_read(tmp_path):
    (tmp_path / "cgroup").write_text("4:cpu,cpuacct:/box\n")
    folder = tmp_path / "fs" / "cpu" / "box"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("200000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert launch._quota(tmp_path / "fs", tmp_path / "cgroup") == 2.0


def test_it_loads_neither_torch_nor_numpy():
    code = "import sys, fathom.launch; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
