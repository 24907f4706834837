"""What a name on the command line means: a model, a run, a recipe."""

from importlib import resources
from pathlib import Path

from fathom.errors import UsageError

RUNS = Path("runs")


def check_free(target: Path, force: bool) -> None:
    """`UsageError` if something stands at `target` that `force` does not give leave to replace."""
    if not force and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"{target} is there already: name another place, or replace it with --force.")


def model_folder(name: str | None, runs: Path = RUNS) -> Path:
    """Find the model folder: a path, a run, a shipped model, a repository; without a name, the newest finished run.

    Shipped models and repositories of the Hugging Face hub are fetched where they are not here yet.
    """
    if name is None:
        finished = finished_runs(runs)
        if not finished:
            raise UsageError(
                f"No model is named and {runs}/ holds no finished run: name a model folder, or train one with "
                "`fathom quickstart`."
            )
        return finished[-1] / "model"
    for candidate in (Path(name), runs / name):
        if is_model(candidate):
            return candidate
        if is_model(candidate / "model"):
            return candidate / "model"
        if (candidate / "checkpoints").is_dir():
            raise UsageError(
                f"{candidate} is a run that is not finished: go on with the command that began it, "
                "and its model will be there at the end."
            )
    if Path(name).is_dir():
        raise UsageError(f"{name} holds no config.json: name a Hugging Face model folder or a finished run.")
    from fathom.weights.located import is_repository, located
    from fathom.weights.shipped import SHIPPED

    if name in SHIPPED or is_repository(name) or Path(name).is_file():
        return located(name)
    raise UsageError(f"There is no model '{name}': name a model folder or a run; `fathom models` lists those at hand.")


def is_model(folder: Path) -> bool:
    """Whether a folder looks like a Hugging Face model."""
    return (folder / "config.json").is_file()


def run_folders(runs: Path = RUNS) -> list[Path]:
    """Every run, the one touched last at the end."""
    found = [folder for folder in runs.iterdir() if (folder / "recipe.toml").is_file()] if runs.is_dir() else []
    return sorted(found, key=lambda folder: folder.stat().st_mtime)


def finished_runs(runs: Path = RUNS) -> list[Path]:
    """Runs whose model is there, the newest last."""
    return [folder for folder in run_folders(runs) if is_model(folder / "model")]


def recipe_file(name: str) -> Path:
    """Find a recipe: a file, or the name of a shipped one."""
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    raise UsageError(f"There is no recipe '{name}': name a .toml file, or one of {', '.join(sorted(shipped))}.")


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with Fathom, by name."""
    folder = Path(str(resources.files("fathom").joinpath("recipes")))
    return {path.stem: path for path in folder.glob("*.toml")}


def set_aside(run: Path) -> Path | None:
    """Move a run out of the way of a new one and return where it is now; None if there was none."""
    from fathom.train.run import claimed

    if not run.exists():
        return None
    number = 1
    while (aside := run.with_name(f"{run.name}-before-{number}")).exists():
        number += 1
    # Claiming it first refuses a run that is being trained at this moment.
    with claimed(run):
        run.rename(aside)
    return aside
