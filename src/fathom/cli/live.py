"""A run watched in a terminal: one picture that changes with every step."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fathom.cli.standing import Standing, plan_lines
from fathom.reports.words import big
from fathom.train.observer import Evaluation, RunPlan, Sample, StepMetrics

BARS = " ▁▂▃▄▅▆▇█"
REFRESH_SECONDS = 0.2
SAMPLE_CHARACTERS = 160


class LiveView:
    """Draws on a terminal; a context manager, so that the cursor is given back however the run ends."""

    def __init__(self, console: Console, names: Sequence[str], xz: dict[str, float]) -> None:
        """`names` are the expert layers' in the order of their loads, `xz` bits per byte to compare with by group."""
        self._console, self._names, self._xz = console, names, xz
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._standing: Standing | None = None
        self._drawn = 0.0
        self._drawing = False
        self._events: deque[str] = deque()

    def __enter__(self) -> Self:
        _spare_the_picture(True)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw(now=True)
        self._live.stop()
        _spare_the_picture(False)

    def on_start(self, plan: RunPlan) -> None:
        """Print the plan above the picture."""
        self._standing = Standing(plan)
        self._live.console.print("\n".join(plan_lines(plan)), highlight=False)
        self._draw(now=True)

    def on_step(self, metrics: StepMetrics) -> None:
        """Take in a step."""
        if self._standing:
            self._standing.step(metrics)
        self._draw()

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Take in a judgement."""
        if self._standing:
            self._standing.held_out[evaluation.group] = evaluation
        self._draw(now=True)

    def on_sample(self, sample: Sample) -> None:
        """Take in a sample."""
        if self._standing:
            self._standing.samples[sample.prompt] = sample
        self._draw(now=True)

    def on_event(self, text: str) -> None:
        """Print it above the picture; a signal may say so in the middle of a drawing, which comes first then."""
        self._events.append(text)
        if not self._drawing:
            self._tell()

    def _draw(self, *, now: bool = False) -> None:
        moment = time.monotonic()
        if self._standing and (now or moment - self._drawn >= REFRESH_SECONDS):
            self._drawn, self._drawing = moment, True
            self._live.update(picture(self._standing, self._names, self._xz, self._console.width), refresh=True)
            self._drawing = False
            self._tell()

    def _tell(self) -> None:
        while self._events:
            self._drawing = True
            self._live.console.print(self._events.popleft(), highlight=False, markup=False)
            self._drawing = False


def _spare_the_picture(wanted: bool) -> None:
    """Whether Ctrl-C leaves the screen alone: no ^C shown, and no output on its way to the terminal thrown away."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import termios

        terminal = sys.stdin.fileno()
        with contextlib.suppress(termios.error):
            settings = termios.tcgetattr(terminal)
            if wanted:
                settings[3] = (settings[3] & ~termios.ECHOCTL) | termios.NOFLSH
            else:
                settings[3] = (settings[3] | termios.ECHOCTL) & ~termios.NOFLSH
            termios.tcsetattr(terminal, termios.TCSANOW, settings)


def picture(standing: Standing, names: Sequence[str], xz: dict[str, float], width: int) -> RenderableType:
    """Everything worth seeing of a run at one moment."""
    parts: list[RenderableType] = [_progress(standing), _figures(standing, xz)]
    if standing.loads:
        parts += [Text(), _experts(standing, names, width)]
    if standing.samples:
        parts += [Text(), *(_sample(sample) for sample in standing.samples.values())]
    return Panel(Group(*parts), title=standing.plan.run, title_align="left", border_style="dim", padding=(0, 1))


def _progress(standing: Standing) -> RenderableType:
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(
        standing.steps_words, ProgressBar(total=1.0, completed=standing.share), standing.left_words or "measuring"
    )
    return row


def _figures(standing: Standing, xz: dict[str, float]) -> RenderableType:
    metrics = standing.metrics
    if metrics is None:
        return Text("the first step is under way", style="dim")
    row = Table.grid(expand=True, padding=(0, 2))
    cells = [
        _figure(f"{metrics.bits_per_byte:.3f}", "bits per byte, training"),
        *(
            _figure(f"{held.bits_per_byte:.3f}", f"{group}, held out{_beside(xz.get(group))}")
            for group, held in standing.held_out.items()
        ),
        _figure(f"{standing.tokens_per_second:,.0f}", f"tokens/s, {standing.matmul_share:.0%} of peak"),
        _figure(big(metrics.tokens), "tokens seen"),
        _figure(f"{metrics.max_vio:.2f}", "MaxVio"),
    ]
    for _ in cells:
        row.add_column(ratio=1)
    row.add_row(*cells)
    return row


def _figure(value: str, meaning: str) -> Text:
    return Text.assemble((value, "bold"), "\n", (meaning, "dim"))


def _beside(xz: float | None) -> str:
    return f" (xz {xz:.2f})" if xz is not None else ""


def _experts(standing: Standing, names: Sequence[str], width: int) -> RenderableType:
    rows = Table.grid(padding=(0, 1))
    rows.add_column(justify="right", style="dim", no_wrap=True)
    rows.add_column(no_wrap=True)
    for name, load in zip(names, standing.loads, strict=False):
        rows.add_row("MTP" if name == "MTP" else f"layer {name}", load_bars(load, max(width - 20, 8)))
    return Group(Text("load of each expert; even is half high", style="dim"), rows)


def load_bars(load: Sequence[int], most: int) -> Text:
    """One bar for each expert, half high at the mean load and full at twice that; neighbours share one if need be."""
    share = -(-len(load) // most)
    mean = sum(load) / len(load) or 1.0
    bars = Text()
    for first in range(0, len(load), share):
        part = load[first : first + share]
        relative = sum(part) / len(part) / mean
        height = min(round(relative * (len(BARS) - 1) / 2), len(BARS) - 1)
        style = "red" if relative > 1.5 else "blue" if relative < 0.5 else "green"
        bars.append(BARS[height], style)
    return bars


def _sample(sample: Sample) -> Text:
    text = " ".join(sample.text.split())
    space = " " if sample.text[:1].isspace() else ""
    return Text.assemble(
        (sample.prompt, "bold cyan"), space + text[:SAMPLE_CHARACTERS], overflow="ellipsis", no_wrap=True
    )
