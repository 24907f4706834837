"""Grids have one solution, and what the thinking places in them is counted against it."""

import random
from itertools import product

import pytest

from fathom.errors import RecipeError
from fathom.reason.response import response_of
from fathom.reason.tasks.grid import BOXES, Grid


def lines_of(side: int) -> list[set[int]]:
    """The cells of every row, column and box."""
    height, width = BOXES[side]
    rows = [{r * side + c for c in range(side)} for r in range(side)]
    columns = [{r * side + c for r in range(side)} for c in range(side)]
    boxes = [
        {(top + r) * side + left + c for r, c in product(range(height), range(width))}
        for top, left in product(range(0, side, height), range(0, side, width))
    ]
    return rows + columns + boxes


def solutions(puzzle: list[int], side: int, lines: list[set[int]]) -> int:
    """How many ways there are to fill a puzzle, by trying every digit in every open cell."""
    if 0 not in puzzle:
        return 1
    cell, count = puzzle.index(0), 0
    near = set().union(*(line for line in lines if cell in line))
    for digit in range(1, side + 1):
        if all(puzzle[other] != digit for other in near):
            count += solutions([*puzzle[:cell], digit, *puzzle[cell + 1 :]], side, lines)
    return count


@pytest.mark.parametrize(("side", "open_cells"), [(4, 1), (4, 10), (6, 14)])
@pytest.mark.parametrize("seed", range(5))
def test_a_grid_has_one_solution_and_as_many_open_cells_as_asked(side: int, open_cells: int, seed: int) -> None:
    problem = Grid(side, open_cells).sample(random.Random(seed))
    puzzle = [0 if sign == "_" else int(sign) for row in problem.prompt.splitlines()[1 : 1 + side] for sign in row]
    assert puzzle.count(0) == open_cells
    lines = lines_of(side)
    solution = [int(sign) for sign in problem.answer.replace(" ", "")]
    assert all({solution[cell] for cell in line} == set(range(1, side + 1)) for line in lines)
    assert all(given in (0, digit) for given, digit in zip(puzzle, solution, strict=True))
    assert solutions(puzzle, side, lines) == 1


def test_rows_may_stand_under_one_another_but_not_run_together() -> None:
    task = Grid()
    problem = task.sample(random.Random(1))
    assert task.score(problem, response_of("", problem.answer.replace(" ", "\n"))).accuracy == 1
    assert task.score(problem, response_of("", problem.answer.replace(" ", ""))).accuracy == 0


def test_placements_are_counted_and_checked() -> None:
    task = Grid()
    problem = task.sample(random.Random(1))
    first = int(problem.answer[0])
    thinking = f"r1c1={first}\nr1c1={first % 4 + 1}\nr9c9=1\nr1c1=12 xr1c1=1\n"
    assert task.score(problem, response_of(thinking, problem.answer)).counts == {"steps": 3, "steps_right": 1}


@pytest.mark.parametrize("options", [{"side": 5}, {"open_cells": 0}, {"open_cells": 11}, {"side": 9, "open_cells": 51}])
def test_a_grid_that_cannot_be_made_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="cannot be made"):
        Grid(**options)
