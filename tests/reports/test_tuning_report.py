"""The page of a fine-tuned model says what changed, escapes what models write, and needs no judgement."""

import json

from fathom.reports.tuning import write_tuning_report


def step(number, **values):
    return {"step": number, "loss": 2.0 / number, "trained_tokens": 600, "elapsed": 3.0 * number} | values


def sample(number, text, accuracy):
    return {"step": number, "prompt": "User: 2 < 3?", "text": text, "score": {"accuracy": accuracy}}


def record(run, name, lines):
    (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_page_shows_the_same_problem_before_and_after_and_what_was_spent(tmp_path):
    record(tmp_path, "metrics.jsonl", [step(1, cross_entropy=2.0), step(2, cross_entropy=1.0)])
    texts = [sample(0, "<b>no</b>", 0.0), sample(1, "in between", 0.0), sample(2, "yes", 1.0)]
    record(tmp_path, "samples.jsonl", texts)
    judged = {"accuracy": 0.25, "length": 9.0, "truncated": 0.0, "pass_at": {"1": 0.25}}
    (tmp_path / "judgements.json").write_text(json.dumps({"0": judged, "2": judged | {"accuracy": 0.75}}))
    page = write_tuning_report(tmp_path, "About <this>", "distill").read_text()
    assert "About &lt;this&gt;" in page
    assert "25% → 75%" in page
    assert "1.2k" in page
    assert "6 s" in page
    assert page.count("User: 2 &lt; 3?") == 1
    assert page.index("&lt;b&gt;no&lt;/b&gt;") < page.index(">yes<")
    assert "in between" not in page
    assert "`fathom distill`" in page


def test_without_a_task_there_is_a_curve_and_nothing_held_out(tmp_path):
    record(tmp_path, "metrics.jsonl", [step(1), step(2)])
    page = write_tuning_report(tmp_path, "", "sft").read_text()
    assert "<svg" in page
    assert "Held-out" not in page
    assert "Before and after" not in page


def test_a_run_stopped_before_its_first_step_has_a_page_too(tmp_path):
    assert "<svg" not in write_tuning_report(tmp_path, "", "sft").read_text()
