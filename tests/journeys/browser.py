"""Debian's Chromium, driven by Playwright; journeys are skipped where either is missing."""

import contextlib
import os
import shutil
from urllib.parse import urlsplit

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def chromium():
    """A browser that reaches nothing but this machine, for as long as the `with` lasts."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed: `apt-get install chromium`, or name one in CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """A page in a browser of its own, and everything that went wrong in it."""

    def __init__(self, browser, house, **options):
        self.house = house
        self.context = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | options))
        self.context.set_default_timeout(60_000)
        self.wrong, self.asked = [], []
        self.page = self.open("about:blank")

    def open(self, address):
        """Another tab."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("console", lambda line: self._hear(line))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        if address != "about:blank":
            page.goto(address)
            page.wait_for_selector("html[data-ready]")
        return page

    def _hear(self, line):
        if line.type == "error" and "Failed to load resource" not in line.text:
            self.wrong.append(f"console: {line.text}")

    def home(self, place=""):
        """Open the page, and wait until it is ready."""
        self.page.goto(f"{self.house.url}/{place}")
        self.page.wait_for_selector("html[data-ready]")
        return self.page

    def ask(self, text):
        """Type a question and send it."""
        self.page.fill("#ask", text)
        self.page.keyboard.press("Enter")

    def answered(self, words=None):
        """Wait for the end of the answer, and for words in it."""
        if words:
            self.page.locator(".answer", has_text=words).last.wait_for()
        self.page.wait_for_selector(".message.answer:last-child .actions button")
        return self.page.locator(".message.answer").last

    def strangers(self):
        """Requests to anyone but the server."""
        own = urlsplit(self.house.url).netloc
        return [url for url in self.asked if urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != own]

    def close(self):
        """Leave, and say what went wrong."""
        self.context.close()
        assert self.wrong == []
        assert self.strangers() == []
