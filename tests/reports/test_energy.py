"""Joules are read where the processor counts them, and their absence is explained."""

import pytest

from fathom.reports import energy
from fathom.reports.energy import Energy, EnergyMeter, EnergyWatch


@pytest.fixture
def counters(tmp_path):
    """Two packages and a sub-domain, as Linux shows them."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        (tmp_path / "powercap" / name).mkdir(parents=True)
        (tmp_path / "powercap" / name / "max_energy_range_uj").write_text("10000000\n")
        (tmp_path / "powercap" / name / "energy_uj").write_text("1000000\n")
    return tmp_path / "powercap"


def count(counters, package, microjoules):
    (counters / f"intel-rapl:{package}" / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_add_up_and_their_parts_are_not_counted_again(tmp_path, counters):
    meter = EnergyMeter(tmp_path, counters)
    count(counters, "0", 3_000_000)
    count(counters, "1", 1_500_000)
    count(counters, "0:0", 9_000_000)
    meter.note()
    assert Energy.load(tmp_path).joules == pytest.approx(2.5)


def test_a_counter_that_begins_again_at_zero_loses_nothing(tmp_path, counters):
    meter = EnergyMeter(tmp_path, counters)
    count(counters, "0", 500_000)
    meter.note()
    assert Energy.load(tmp_path).joules == pytest.approx(9.5)


def test_a_resumed_run_goes_on_counting(tmp_path, counters):
    for value in (2_000_000, 5_000_000):
        meter = EnergyMeter(tmp_path, counters)
        count(counters, "0", value)
        meter.note()
    assert Energy.load(tmp_path).joules == pytest.approx(4.0)


def test_a_machine_without_counters_says_so(tmp_path):
    EnergyMeter(tmp_path, tmp_path / "none").note()
    found = Energy.load(tmp_path)
    assert found.joules is None
    assert "shows none" in found.why


def test_counters_that_may_not_be_read_say_so(tmp_path, counters, monkeypatch):
    def forbidden(self, *_, **__):
        raise PermissionError

    monkeypatch.setattr(energy.Path, "read_text", forbidden)
    meter = EnergyMeter(tmp_path, counters)
    meter.note()
    monkeypatch.undo()
    assert "only the administrator" in Energy.load(tmp_path).why


def test_a_run_without_a_note_says_so(tmp_path):
    assert "not read during this run" in Energy.load(tmp_path).why


def test_the_watch_notes_from_the_beginning(tmp_path):
    EnergyWatch(tmp_path).on_start(None)
    assert (tmp_path / energy.FILE).exists()
