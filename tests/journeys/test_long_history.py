"""The chat page with two hundred chats in its history, and two tabs open."""

import pytest
from browser import Visitor, chromium

from chat_house import House, Scripted
from chat_scenes import fill_history, speak

pytestmark = pytest.mark.slow
CHATS = 200


def test_two_hundred_chats_are_scrolled_found_renamed_and_deleted_in_two_tabs(tmp_path):
    answerer = Scripted()
    answerer.script = speak
    with chromium() as browser, House(tmp_path / "data", answerer) as house:
        fill_history(house.store, CHATS, turns=5)
        reader = Visitor(browser, house)
        first = reader.home()
        second = reader.open(house.url)
        assert first.locator(".entry").count() == CHATS
        oldest = first.locator(".entry", has_text="Question 0 about")
        assert not in_view(oldest)
        oldest.scroll_into_view_if_needed()
        assert in_view(oldest)

        first.fill("#find", "narwhal")
        first.locator(".entry.hit mark", has_text="narwhal").wait_for()
        assert first.locator(".entry.hit").count() == 1
        first.locator(".entry.hit").click()
        first.locator(".question", has_text="turn 3 of question 3").wait_for()
        assert in_view(first.locator(".question", has_text="A narwhal!"))
        first.fill("#find", "")

        menu = first.get_by_label("This chat")
        menu.click()
        first.get_by_role("menuitem", name="Rename").click()
        first.locator("dialog input").fill("Tusks")
        first.locator("dialog input").press("Enter")
        for page in (first, second):
            page.locator(".entry", has_text="Tusks").wait_for()

        second.locator(".entry", has_text="Question 7 about").click()
        second.locator(".question", has_text="turn 4 of question 7").wait_for()
        menu.click()
        first.get_by_role("menuitem", name="Delete").click()
        first.locator("dialog").get_by_role("button", name="Delete").click()
        for page in (first, second):
            page.locator(".entry", has_text="Tusks").wait_for(state="detached")
            assert page.locator(".entry").count() == CHATS - 1
        assert second.locator(".question", has_text="turn 4 of question 7").is_visible()

        second.fill("#ask", "How does pressure grow?")
        second.keyboard.press("Enter")
        first.locator(".entry", has_text="Question 7 about").click()
        first.locator(".answer", has_text="Mariana Trench").last.wait_for()
        reader.close()


def in_view(locator):
    """Whether it can be seen without scrolling."""
    box = locator.bounding_box()
    return box is not None and 0 <= box["y"] < 800 - box["height"]
