"""The quickstart with and without a terminal, stopped, killed, and taken up again."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from tiny import QUICKSTART

PATIENCE = 120.0


class Terminal:
    """A command in a terminal, and someone at the keyboard."""

    def __init__(self, arguments, place, environment):
        self._keyboard, inside = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fathom", *arguments],
            cwd=place,
            env=environment,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            preexec_fn=_own_terminal,
        )
        os.close(inside)
        self.seen = ""

    def wait_for(self, words):
        """Read the screen until `words` appear."""
        end = time.monotonic() + PATIENCE
        while words not in self._plain():
            assert time.monotonic() < end, self.seen
            assert self._read(), f"it ended without saying {words!r}: {self.seen}"

    def type(self, keys):
        os.write(self._keyboard, keys.encode())

    def status(self):
        """Read to the end and return the exit status."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)

    def _plain(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen).replace("\r", "")

    def _read(self):
        if not select.select([self._keyboard], [], [], PATIENCE)[0]:
            return False
        try:
            data = os.read(self._keyboard, 65536)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


def _own_terminal():
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(place, environment):
    opened = []

    def start(*arguments):
        opened.append(Terminal(arguments, place, environment))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def bare(fathom):
    """A quickstart run from beginning to end without a terminal."""
    return fathom("quickstart", "--run", "runs/bare", *QUICKSTART, "--set=train.steps=6")


@pytest.fixture
def begun(terminal, place):
    """A quickstart stopped by Ctrl-C in a terminal, and the steps it did."""
    first = terminal("quickstart", *QUICKSTART, "--set=train.steps=100000")
    first.wait_for("MaxVio")
    first.type("\x03")
    first.wait_for("Go on with:")
    assert first.status() == 130
    return len(losses(place / "runs/quickstart"))


def test_without_a_terminal_it_trains_reports_and_shows_three_completions(bare, place):
    assert "3. A report" in bare.stderr
    assert "step 6 of 6" in bare.stderr
    assert "xz -9e" in bare.stdout
    for beginning in ("The captain looked", "春风", "def read_lines"):
        assert beginning in bare.stdout
    assert (place / "runs/bare/report.html").is_file()


def test_run_again_without_a_terminal_it_goes_on_at_once_to_the_completions(bare, here, place):
    before = (place / "runs/bare/metrics.jsonl").read_text()
    answer = json.loads(here("quickstart", "--run", "runs/bare", "--json").stdout)
    assert len(answer["completions"]) == 3
    assert answer["steps"] == 6
    assert (place / "runs/bare/metrics.jsonl").read_text() == before


def test_another_budget_for_a_run_that_was_begun_is_refused(bare, here):
    done = here("quickstart", "--run", "runs/bare", "--minutes", "3", status=2)
    assert "--fresh" in done.stderr


def test_in_a_terminal_it_is_stopped_goes_on_starts_anew_and_ends_at_a_prompt(begun, terminal, place):
    again = terminal("quickstart", "--plain")
    again.wait_for("[go/new]")
    again.type("\n")
    again.wait_for(f"Going on after step {begun:,}")
    again.type("\x03")
    assert again.status() == 130

    anew = terminal("quickstart", *QUICKSTART, "--set=train.steps=4")
    anew.wait_for("[go/new]")
    anew.type("new\n")
    anew.wait_for("quickstart-before-1")
    anew.wait_for("Begin a text")
    anew.type("The sea\n")
    anew.wait_for("The sea\nThe sea")
    anew.type("/exit\n")
    assert anew.status() == 0
    assert len(losses(place / "runs/quickstart-before-1")) >= begun


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_losses(fathom, place, environment):
    steps = "--set=train.steps=30"
    fathom("quickstart", "--run", "runs/whole", *QUICKSTART, steps)
    command = [sys.executable, "-m", "fathom", "quickstart", "--run", "runs/killed", *QUICKSTART, steps]
    log = place / "runs/killed/metrics.jsonl"
    for wanted in (3, 11, 20):
        process = subprocess.Popen(command, cwd=place, env=environment, stdin=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < end:
            if log.exists() and len(log.read_text().splitlines()) >= wanted:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        command = command[:6]
    fathom("quickstart", "--run", "runs/killed")
    assert losses(place / "runs/killed") == losses(place / "runs/whole")


@pytest.mark.slow
def test_two_processes_train_one_recipe(place, environment):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "--", "fathom"]
    done = subprocess.run(
        [*command, "pretrain", "tiny.toml", "--run", "runs/two"],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (place / "runs/two/model/config.json").is_file()
    assert done.stdout.count("model: runs/two/model") == 1
