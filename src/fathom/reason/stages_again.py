"""Begin a stage of R1 anew, and with it all that was made from it."""

from pathlib import Path

from fathom.errors import UsageError
from fathom.reason.stages import STAGES
from fathom.train.run import claimed


def set_stages_aside(folder: Path, stage: str) -> list[Path]:
    """Move `stage` and the stages after it out of the way and return where they are now; `UsageError` for no stage."""
    if stage not in STAGES:
        raise UsageError(f"There is no stage '{stage}': the stages are {', '.join(STAGES)}.")
    moved = []
    for name in STAGES[STAGES.index(stage) :]:
        place = folder / name
        if place.exists():
            number = 1
            while (aside := folder / f"{name}-before-{number}").exists():
                number += 1
            with claimed(place):
                place.rename(aside)
            moved.append(aside)
    return moved
