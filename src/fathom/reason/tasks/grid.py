"""Fill a small grid so that no row, column or box repeats a digit (sudoku, of sides 4, 6 and 9).

Each puzzle has one solution. Placements that the thinking writes (`r1c2=3`) are counted, and how many are right.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fathom.errors import RecipeError
from fathom.reason.response import prompt_of, read_response
from fathom.reason.task import Language, Problem, Score

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Rows and columns of a box, by the side of the grid."""

QUESTIONS: dict[Language, str] = {
    "en": "Fill in the grid: each row, each column and each box of {height} by {width} holds 1 to {side} once.\n{grid}",
    "zh": "填满方格：每行、每列、每个 {height} 乘 {width} 的宫都含 1 到 {side} 各一次。\n{grid}",
}
PLACEMENT = re.compile(r"(?<![A-Za-z0-9])r([1-9])c([1-9])=([1-9])(?![0-9])")

Cells = list[int]
"""A grid row after row; 0 is an open cell."""


@dataclass(frozen=True)
class Grid:
    """A grid of `side` by `side` with `open_cells` left to fill."""

    side: int = 4
    open_cells: int = 6
    languages: tuple[Language, ...] = ("en",)
    name: str = "grid"

    def __post_init__(self) -> None:
        most = {4: 10, 6: 22, 9: 50}.get(self.side, 0)
        if not 1 <= self.open_cells <= most:
            raise RecipeError(
                f"grid with side = {self.side}, open_cells = {self.open_cells} cannot be made: sides are 4, 6 and 9, "
                "with at most 10, 22 and 50 open cells."
            )

    def sample(self, rng: random.Random) -> Problem:
        """A puzzle whose solution is the only one."""
        puzzle = None
        while puzzle is None:
            solution = next(self._solutions([0] * self.side**2, rng))
            puzzle = self._opened(solution, rng)
        language = rng.choice(self.languages)
        height, width = BOXES[self.side]
        shown = self._rows(puzzle, "\n")
        question = QUESTIONS[language].format(height=height, width=width, side=self.side, grid=shown)
        answer = self._rows(solution, " ")
        return Problem(prompt_of(question), answer, f"{self.name} {shown}", language, {"solution": solution})

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """Right if the answer is the filled grid, its rows apart by spaces or lines."""
        response = read_response(text)
        given = response.answer if response.answer is not None and finished else ""
        right = given.split() == problem.answer.split()
        return Score(float(right), float(response.has_form and finished), 1.0, self._counts(problem, response.thinking))

    def _counts(self, problem: Problem, thinking: str) -> dict[str, int]:
        solution, side = problem.data["solution"], self.side
        written = [tuple(map(int, found)) for found in PLACEMENT.findall(thinking)]
        right = sum(r <= side and c <= side and solution[(r - 1) * side + c - 1] == digit for r, c, digit in written)
        return {"steps": len(written), "steps_right": right}

    def _rows(self, cells: Cells, between: str) -> str:
        rows = ("".join(str(digit or "_") for digit in cells[at : at + self.side]) for at in self._row_starts())
        return between.join(rows)

    def _row_starts(self) -> range:
        return range(0, self.side**2, self.side)

    def _opened(self, solution: Cells, rng: random.Random) -> Cells | None:
        """The solution with cells opened one by one where it stays the only one; None if too few can be."""
        puzzle, left = list(solution), self.open_cells
        for cell in rng.sample(range(len(puzzle)), len(puzzle)):
            puzzle[cell] = 0
            solutions = self._solutions(list(puzzle))
            next(solutions)
            if next(solutions, None) is not None:
                puzzle[cell] = solution[cell]
                continue
            left -= 1
            if not left:
                return puzzle
        return None

    def _solutions(self, cells: Cells, rng: random.Random | None = None) -> Iterator[Cells]:
        """Every way to fill the open cells, the most constrained cell first; with `rng` in an order of its own.

        `cells` is filled on the way.
        """
        fits = {cell: self._digits_for(cells, cell) for cell, digit in enumerate(cells) if not digit}
        if not fits:
            yield list(cells)
            return
        cell = min(fits, key=lambda open_cell: len(fits[open_cell]))
        digits = fits[cell] if rng is None else rng.sample(fits[cell], len(fits[cell]))
        for digit in digits:
            cells[cell] = digit
            yield from self._solutions(cells, rng)
        cells[cell] = 0

    def _digits_for(self, cells: Cells, cell: int) -> list[int]:
        row, column = divmod(cell, self.side)
        height, width = BOXES[self.side]
        taken = {cells[row * self.side + c] for c in range(self.side)}
        taken |= {cells[r * self.side + column] for r in range(self.side)}
        first_row, first_column = row // height * height, column // width * width
        taken |= {cells[(first_row + r) * self.side + first_column + c] for r in range(height) for c in range(width)}
        return [digit for digit in range(1, self.side + 1) if digit not in taken]
