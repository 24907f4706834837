"""Signals, and where texts and runs are kept."""

import os
import signal

import pytest

from fathom.cli import interrupt
from fathom.cli.interrupt import interruptible
from fathom.cli.running import corpus_folder
from fathom.config.corpus import CorpusConfig


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_wish_to_stop_and_says_what_follows(capsys, number, status):
    with interruptible() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
    assert stop.exit_status == status
    assert "saving the state" in capsys.readouterr().err


def test_an_echo_of_the_first_signal_is_not_a_second_wish():
    with interruptible() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.exit_status == 130


def test_the_second_signal_leaves_at_once(monkeypatch):
    monkeypatch.setattr(interrupt, "SAME_WISH_SECONDS", 0.0)
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signals_mean_what_they_did_before_when_the_run_is_over():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_another_text_has_another_folder_and_the_same_text_the_same():
    assert corpus_folder(CorpusConfig()) == corpus_folder(CorpusConfig())
    assert corpus_folder(CorpusConfig()) != corpus_folder(CorpusConfig(vocab_size=4096))
