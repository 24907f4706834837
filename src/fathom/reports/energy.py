"""Joules a run took, where the processor counts them (RAPL, under Linux's powercap)."""

import os
import time
from pathlib import Path

from fathom.config.base import Section
from fathom.train.observer import RunPlan, Silent, StepMetrics

POWERCAP = Path("/sys/class/powercap")
FILE = "energy.json"
EVERY_SECONDS = 5.0


class Energy(Section):
    """What the processor's counters say of a run, or why they say nothing."""

    joules: float | None = None
    """Energy of all processor packages over the run, this machine's other work included; None where unreadable."""
    why: str = ""
    """Why there is no figure."""

    @classmethod
    def load(cls, run: Path) -> "Energy":
        """Read what was noted in a run folder."""
        try:
            return cls.model_validate_json((run / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(why="they were not read during this run")


class EnergyMeter:
    """Adds up the packages' counters while a run goes on, in the run folder, so that a resumed run goes on counting."""

    def __init__(self, run: Path, powercap: Path = POWERCAP) -> None:
        self._file = run / FILE
        self._joules = Energy.load(run).joules or 0.0
        self._packages = packages(powercap)
        self._why = "" if self._packages else f"this machine shows none under {powercap}"
        self._last = self._read()

    def note(self) -> None:
        """Read the counters and write the sum so far."""
        now = self._read()
        if not self._why:
            for package, before, after in zip(self._packages, self._last, now, strict=True):
                span = after - before
                self._joules += (span if span >= 0 else span + _range(package)) / 1e6
            self._last = now
        energy = Energy(joules=None if self._why else self._joules, why=self._why)
        partial = self._file.with_name(FILE + ".partial")
        partial.write_text(energy.model_dump_json(), encoding="utf-8")
        os.replace(partial, self._file)

    def _read(self) -> list[int]:
        try:
            return [int((package / "energy_uj").read_text()) for package in self._packages]
        except PermissionError:
            self._why = "only the administrator may read them"
        except (OSError, ValueError) as error:
            self._why = f"they cannot be read ({error})"
        return []


def packages(powercap: Path = POWERCAP) -> list[Path]:
    """Folders of the RAPL package domains; their sub-domains are parts of them and not counted again."""
    domains = (folder for folder in powercap.glob("intel-rapl:*") if (folder / "energy_uj").exists())
    return sorted(folder for folder in domains if folder.name.count(":") == 1)


def _range(package: Path) -> int:
    """Where a counter begins again at zero."""
    return int((package / "max_energy_range_uj").read_text())


class EnergyWatch(Silent):
    """Reads the counters every few seconds of a run, and so loses only those if it is killed."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._meter: EnergyMeter | None = None
        self._last = 0.0

    def on_start(self, plan: RunPlan) -> None:
        """Begin to count."""
        self._meter = EnergyMeter(self._run)
        self._meter.note()

    def on_step(self, metrics: StepMetrics) -> None:
        """Note the sum if the last note is old enough, or this may be the last step."""
        now = time.monotonic()
        if self._meter and (now - self._last >= EVERY_SECONDS or metrics.step == metrics.steps):
            self._last = now
            self._meter.note()
