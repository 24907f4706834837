"""The chat page: when it is first painted, what rendering an answer costs while it grows, how fast documents are found.

    python benchmarks/chat_page.py

Needs Debian's Chromium for the first row (`apt-get install chromium`, or name one in CHROMIUM); the others run without.
"""

import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import machine, show, spread, write

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chat_house import House
from chat_scenes import ANSWER, fill_history, words
from fathom.serve.knowledge.folder import KnowledgeFolder
from fathom.serve.rendering.markdown import render
from fathom.serve.rendering.stream import StreamRenderer

PAINTS = 7
LENGTH = 60
"""Times the sample answer is repeated: about 42,000 characters, the length of a long chain of thought."""
DOCUMENTS = 2_000
HISTORY = 200
"""Chats, of ten messages each."""
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru")


def first_paint() -> list[float]:
    """Milliseconds until a fresh browser shows the page, on loopback, with a chat in the history."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    times = []
    with tempfile.TemporaryDirectory() as folder, House(Path(folder)) as house, sync_playwright() as driver:
        house.answered(house.ask("How deep is the sea?"))
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(PAINTS):
            page = browser.new_context().new_page()
            page.goto(house.url)
            page.wait_for_selector("html[data-ready]")
            entries = json.loads(page.evaluate("JSON.stringify(performance.getEntriesByType('paint'))"))
            times.append(next(one["startTime"] for one in entries if one["name"] == "first-contentful-paint"))
            page.context.close()
        browser.close()
    return times


def history() -> dict[str, float]:
    """Milliseconds in the browser with 200 chats of ten messages: open, find, rename, delete, until it is shown."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    took: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        took[name] = 1e3 * (time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder, House(Path(folder)) as house, sync_playwright() as driver:
        fill_history(house.store, HISTORY)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        with timed("open"):
            page.goto(house.url)
            page.wait_for_selector("html[data-ready]")
            page.locator(".entry").nth(HISTORY - 1).wait_for()
        with timed("find"):
            page.fill("#find", "narwhal")
            page.locator(".entry.hit mark").wait_for()
        with timed("show a chat"):
            page.locator(".entry.hit").click()
            page.locator(".answer").last.wait_for()
        page.fill("#find", "")
        page.get_by_label("This chat").click()
        page.get_by_role("menuitem", name="Rename").click()
        page.locator("dialog input").fill("Tusks")
        with timed("rename"):
            page.locator("dialog input").press("Enter")
            page.locator(".entry", has_text="Tusks").wait_for()
        page.get_by_label("This chat").click()
        page.get_by_role("menuitem", name="Delete").click()
        with timed("delete"):
            page.locator("dialog").get_by_role("button", name="Delete").click()
            page.locator(".entry", has_text="Tusks").wait_for(state="detached")
        browser.close()
    return took


def rendering() -> dict[str, float]:
    """CPU milliseconds to keep a growing answer rendered, by closed blocks and by rendering all of it each time."""
    text = "\n\n".join([ANSWER] * LENGTH)
    pieces = list(words(text))
    stream, began = StreamRenderer(), time.process_time()
    for piece in pieces:
        stream.feed(piece)
        stream.update()
    stream.finish()
    by_blocks = time.process_time() - began
    # Every piece would take minutes; every hundredth is enough for the mean.
    began, ends = time.process_time(), range(100, len(pieces), 100)
    for end in ends:
        render("".join(pieces[:end]))
    whole = (time.process_time() - began) / len(ends) * len(pieces)
    return {
        "characters": len(text),
        "pieces": len(pieces),
        "by_blocks_ms_a_piece": 1e3 * by_blocks / len(pieces),
        "whole_ms_a_piece": 1e3 * whole / len(pieces),
    }


def documents() -> dict[str, float]:
    """CPU seconds to index documents, to look for changes, and to answer a question."""
    chance = random.Random(1)
    vocabulary = [f"{chance.choice(SYLLABLES)}{chance.randrange(10_000)}" for _ in range(5000)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "documents"
        folder.mkdir()
        for number in range(DOCUMENTS):
            text = "\n\n".join(" ".join(chance.choices(vocabulary, k=80)) for _ in range(10))
            (folder / f"{number}.md").write_text(f"# Document {number}\n\n{text}\n")
        knowledge = KnowledgeFolder(folder, Path(place) / "index")
        times = {}
        for name in ("index", "look again"):
            began = time.process_time()
            standing = knowledge.sync()
            times[name] = time.process_time() - began
        asked = []
        for _ in range(50):
            began = time.process_time()
            knowledge.search(" ".join(chance.choices(vocabulary, k=8)))
            asked.append(time.process_time() - began)
        knowledge.close()
    return {
        "documents": standing.documents,
        "passages": standing.passages,
        "index_s": times["index"],
        "look_again_s": times["look again"],
        "question_ms": 1e3 * statistics.median(asked),
    }


def main() -> None:
    """Print the table and write results/chat_page.json."""
    facts: dict[str, object] = {"machine": machine(1), "rendering": rendering(), "documents": documents()}
    rendered, found = facts["rendering"], facts["documents"]
    rows = [
        ["rendering a growing answer, closed blocks once", f"{rendered['by_blocks_ms_a_piece']:.2f} ms a piece"],
        ["rendering it whole each time", f"{rendered['whole_ms_a_piece']:.1f} ms a piece"],
        [f"indexing {found['documents']:,} documents ({found['passages']:,} passages)", f"{found['index_s']:.1f} s"],
        ["looking for changed documents", f"{1e3 * found['look_again_s']:.0f} ms"],
        ["finding passages for a question", f"{found['question_ms']:.1f} ms"],
    ]
    try:
        facts["first_paint_ms"] = spread(first_paint())
        rows.insert(0, ["first contentful paint on loopback", f"{facts['first_paint_ms']['median']:.0f} ms (median)"])
        facts["history_ms"] = history()
        steps = ", ".join(f"{name} {took:.0f}" for name, took in facts["history_ms"].items())
        rows.insert(1, [f"with {HISTORY} chats in the history, in the browser", f"{steps} ms"])
    except Exception as error:  # no Playwright or no browser
        print(f"No browser was measured: {error}")
    show(
        f"The chat page ({facts['machine']['processor']})", ["what", "processor time, in the browser wall clock"], rows
    )
    print(f"\nwritten to {write('chat_page', facts)}")


if __name__ == "__main__":
    main()
