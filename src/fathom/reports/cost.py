"""What a run costs: electricity and a rented machine, with every assumption named."""

from dataclasses import dataclass

from fathom.config.base import Section
from fathom.reports.run import RunRecord


class Prices(Section):
    """Assumptions a cost is computed with. None is measured; each is shown beside the result."""

    dollars_per_kwh: float = 0.30
    """Price of electricity."""
    watts_per_core: float = 15.0
    """Draw of one busy core with its share of the machine, where no counter can be read."""
    dollars_per_core_hour: float = 0.05
    """Price of one rented processor core for an hour."""


@dataclass(frozen=True)
class Cost:
    """A run's cost two ways, in US cents."""

    cores: int
    joules: float
    measured: bool
    """Whether the joules were read from counters, or come from `watts_per_core`."""
    electricity_cents: float
    rent_cents: float


def cost_of(record: RunRecord, prices: Prices) -> Cost | None:
    """Price a run on processor cores; None for a run on a GPU, whose price and draw nobody has stated."""
    if (
        not record.provenance
        or record.recipe.parallel.device == "cuda"
        or "NVIDIA" in record.provenance[-1]["processor"]
    ):
        return None
    cores = record.provenance[-1]["threads"] * record.provenance[-1]["processes"]
    measured = record.energy.joules is not None
    joules = (
        record.energy.joules if record.energy.joules is not None else record.seconds * cores * prices.watts_per_core
    )
    return Cost(
        cores=cores,
        joules=joules,
        measured=measured,
        electricity_cents=joules / 3.6e6 * prices.dollars_per_kwh * 100,
        rent_cents=record.seconds / 3600 * cores * prices.dollars_per_core_hour * 100,
    )
