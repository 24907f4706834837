"""The adapter to reasoning-gym, against a stand-in of its interface and, where it is installed, the package itself."""

import random
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from fathom.errors import RecipeError, UsageError
from fathom.reason.registry import make_task
from fathom.reason.response import response_of


class Additions:
    """A data set as the package makes them: entries by number, and points for an answer to one."""

    def __init__(self, size: int, seed: int, largest: int = 9) -> None:
        assert largest > 0, "largest must be positive"
        self.size, self.seed, self.largest = size, seed, largest

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = random.Random(self.seed + index)
        a, b = rng.randint(0, self.largest), rng.randint(0, self.largest)
        return {"question": f"{a} + {b} = ", "answer": str(a + b), "metadata": {"sum": a + b}}

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        return 1.0 if answer == str(entry["metadata"]["sum"]) else 0.01


@pytest.fixture(params=["stand-in", "package"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a data set of additions."""
    if request.param == "package":
        if find_spec("reasoning_gym") is None:
            pytest.skip("reasoning-gym is not installed")
        return "chain_sum"
    package = ModuleType("reasoning_gym")
    package.__spec__ = ModuleSpec("reasoning_gym", None)

    def create_dataset(name: str, **settings: Any) -> Additions:
        if name != "additions":
            raise ValueError(f"Dataset '{name}' not registered")
        return Additions(**settings)

    package.create_dataset = create_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reasoning_gym", package)
    return "additions"


def test_the_packages_answer_is_right_and_its_points_for_trying_are_none(name: str) -> None:
    task = make_task("gym", dataset=name)
    problem, again = (task.sample(random.Random(3)) for _ in range(2))
    assert problem == again
    assert problem != task.sample(random.Random(4))
    assert task.score(problem, response_of("hm\n", problem.answer)).accuracy == 1
    assert task.score(problem, response_of("hm\n", problem.answer), finished=False).accuracy == 0
    for wrong in ("", "zzz", f"{problem.answer}7"):
        assert task.score(problem, response_of("hm\n", wrong)).accuracy == 0
    assert task.score(problem, problem.answer).accuracy == 0


@pytest.mark.parametrize("options", [{"dataset": "nothing-like-it"}, {"settings": {"no_such_setting": 1}}])
def test_what_the_package_does_not_make_is_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="reasoning-gym makes no data set"):
        make_task("gym", **{"dataset": name, **options})


def test_without_the_package_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setattr("fathom.reason.tasks.gym.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'fathom-lm\[gym\]'"):
        make_task("gym", dataset="chain_sum")
