"""The report is one page that tells a run truly, finished or not, and needs nothing from anywhere."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from made_up import make_run

from fathom.errors import UsageError
from fathom.reports.cost import Prices
from fathom.reports.report import write_report
from fathom.reports.run import RunRecord
from fathom.reports.words import big

VOID = {"meta", "br", "img", "link", "input"}


class Balance(HTMLParser):
    """Complains of a tag that is not closed in its place."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "probe", steps=200)


@pytest.fixture(scope="module")
def page(run):
    return write_report(run).read_text(encoding="utf-8")


def test_every_tag_is_closed_in_its_place(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_nothing_is_fetched_from_anywhere(page):
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert "url(" not in page
    assert "<script" not in page


def test_it_follows_the_readers_light_or_dark(page):
    assert "prefers-color-scheme: dark" in page


def test_it_tells_the_model_the_time_and_the_text(run, page):
    text, parameters = text_of(page), RunRecord.load(run).parameters
    for words in (f"{big(parameters.total)} parameters", f"{big(parameters.active)} of them used"):
        assert words in text
    for words in ("Run probe", "1.64M tokens", "3.7 min"):
        assert words in text
    for words in ("Six novels", "PSF-2.0"):
        assert words in text


def test_it_compares_each_language_with_xz(run, page):
    record, text = RunRecord.load(run), text_of(page)
    for group in ("english", "chinese", "code"):
        assert f"{record.last(group).bits_per_byte:.3f}" in text
        assert f"{record.xz[group].bits_per_byte:.3f}" in text
    assert "larger than xz" in text


def test_what_the_model_wrote_is_shown_as_text_not_as_markup(page):
    assert "the &lt;sea&gt; is deep" in page
    assert "天气很好" in page


def test_every_assumption_of_the_cost_is_named(page):
    text = text_of(page)
    assert "Joules could not be measured" in text
    for words in ("15 W", "$0.30 a kWh (assumed)", "a core an hour $0.05 (assumed)"):
        assert words in text


def test_prices_may_be_ones_own(run):
    text = text_of(write_report(run, Prices(dollars_per_kwh=1.25)).read_text(encoding="utf-8"))
    assert "$1.25 a kWh" in text


def test_measured_joules_take_the_place_of_the_assumption(tmp_path):
    run = make_run(tmp_path / "run", steps=20)
    (run / "energy.json").write_text(json.dumps({"joules": 7200.0, "why": ""}))
    text = text_of(write_report(run).read_text(encoding="utf-8"))
    assert "7.2 kJ" in text
    assert "could not be measured" not in text


def test_an_unfinished_run_is_reported_as_far_as_it_is(tmp_path):
    run = make_run(tmp_path / "run", steps=3, model=False)
    assert "not finished: trained so far" in text_of(write_report(run).read_text(encoding="utf-8"))


def test_a_run_without_a_single_step_is_reported_too(tmp_path):
    run = make_run(tmp_path / "run", steps=0, model=False)
    assert "Nothing was recorded" in write_report(run).read_text(encoding="utf-8")


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    run = make_run(tmp_path / "run", steps=5, model=False)
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 6, "loss')
    assert len(RunRecord.load(run).steps) == 5
    write_report(run)


def test_without_its_corpus_the_report_says_what_is_missing(tmp_path):
    run = make_run(tmp_path / "run", steps=60)
    shutil.rmtree(run / "corpus")
    text = text_of(write_report(run).read_text(encoding="utf-8"))
    assert "xz could not be run" in text
    assert "no longer where this run read it" in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a run"):
        write_report(tmp_path)
