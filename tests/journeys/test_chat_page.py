"""The chat page as its reader walks through it."""

import json
import re

import pytest
from browser import Visitor, chromium

from chat_house import WAIT, House, Scripted
from chat_scenes import speak, write_documents
from fathom.serve.keys import KeyStore
from fathom.serve.knowledge.folder import KnowledgeFolder
from fathom.serve.page.answerer import Ended, Said, Thinking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def house(tmp_path):
    write_documents(tmp_path / "library")
    knowledge = KnowledgeFolder(tmp_path / "library", tmp_path / "index")
    knowledge.sync()
    answerer = Scripted()
    answerer.script = speak
    with House(tmp_path / "data", answerer, knowledge=knowledge) as house:
        yield house
    knowledge.close()


@pytest.fixture
def visit(browser, house):
    """Open the page in a browser of its own, as often as a test likes."""
    visitors = []

    def visit(**options):
        visitors.append(Visitor(browser, house, **options))
        visitors[-1].home()
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.close()


def test_thinking_search_and_the_answer_are_streamed_and_citations_open(visit, house):
    house.answerer.pause = 0.02
    reader = visit()
    reader.page.click("#think")
    reader.page.click("#search")
    reader.ask("How does pressure grow with depth?")
    reader.page.wait_for_selector(".thinks")
    assert re.fullmatch(r"Thinking… \d+ s", reader.page.inner_text(".thinks .thought-head:first-child").strip())
    answer = reader.answered("rest on everything")
    assert re.match(r"Thought for \d+ s", answer.locator(".thought-head").first.inner_text())
    assert answer.locator("math").count() > 5
    assert answer.locator(".code").count() == 1
    assert answer.locator("table").count() == 1
    answer.locator("a.citation").first.click()
    sources = reader.page.locator("dialog")
    assert "oceans/" in sources.locator(".source.here").inner_text()
    reader.page.keyboard.press("Escape")
    sources.wait_for(state="detached")  # the browser tells of a closed dialog in a task of its own


def test_the_thinking_folds_and_unfolds(visit, house):
    house.answerer.pause = 0.01
    reader = visit()
    reader.page.click("#think")
    reader.ask("How does pressure grow?")
    answer = reader.answered("everything")
    head = answer.locator(".thought-head").first
    assert head.get_attribute("aria-expanded") == "true"
    head.click()
    assert not answer.locator(".thought .text").is_visible()
    reader.page.reload()
    reader.page.wait_for_selector("html[data-ready]")
    assert not reader.answered().locator(".thought .text").is_visible()


def test_a_reload_and_a_second_tab_see_the_answer_go_on(visit, house):
    house.answerer.script = lambda messages, thinking: [
        Said(content="First words. "),
        WAIT,
        Said(content="Last words."),
    ]
    reader = visit()
    reader.ask("Go")
    reader.page.get_by_text("First words.").wait_for()
    other = reader.open(reader.page.url)
    other.get_by_text("First words.").wait_for()
    reader.page.reload()
    reader.page.get_by_text("First words.").wait_for()
    house.answerer.release.set()
    for page in (reader.page, other):
        page.get_by_text("Last words.").wait_for()
        page.wait_for_selector(".answer .actions button")
    assert other.locator(".message").count() == 2


def test_a_draft_survives_a_reload_and_is_gone_when_sent(visit, house):
    reader = visit()
    reader.page.fill("#ask", "half a thought")
    reader.page.reload()
    reader.page.wait_for_selector("html[data-ready]")
    assert reader.page.input_value("#ask") == "half a thought"
    reader.page.press("#ask", "Enter")
    reader.answered()
    reader.home()
    assert reader.page.input_value("#ask") == ""


def test_an_answer_is_stopped_gone_on_with_and_written_again(visit, house):
    house.answerer.script = lambda messages, thinking: [Said(content="As far as "), WAIT]
    reader = visit()
    reader.ask("Go")
    reader.page.get_by_text("As far as").wait_for()
    reader.page.keyboard.press("Escape")
    assert "Stopped" in reader.answered().inner_text()
    house.answerer.script = lambda messages, thinking: [Said(content="the sea.")]
    reader.page.get_by_label("Go on writing").click()
    reader.answered("As far as the sea.")
    reader.page.get_by_label("Another answer").click()
    reader.page.locator(".answer", has_text=re.compile("^(?!.*As far).*the sea", re.S)).wait_for()
    versions = reader.page.locator(".answer .versions")
    assert versions.inner_text().strip() == "2/2"
    versions.get_by_label("The version before").click()
    reader.answered("As far as the sea.")


def test_a_question_is_edited_and_both_versions_stay(visit):
    reader = visit()
    reader.ask("whales?")
    reader.answered("know little: whales?")
    reader.page.locator(".question").hover()
    reader.page.get_by_label("Edit").click()
    field = reader.page.locator(".edit textarea")
    field.fill("sharks?")
    field.press("Enter")
    reader.answered("know little: sharks?")
    assert reader.page.locator(".message").count() == 2
    reader.page.locator(".question").hover()
    reader.page.locator(".question").get_by_label("The version before").click()
    reader.answered("know little: whales?")


def test_a_branch_goes_on_in_a_chat_of_its_own(visit):
    reader = visit()
    reader.ask("whales?")
    reader.answered()
    before = reader.page.url
    reader.page.get_by_label("Go on from here in a new chat").click()
    reader.page.wait_for_url(lambda url: url != before)
    reader.answered("know little: whales?")
    assert reader.page.locator(".entry").count() == 2


def test_messages_and_code_are_copied(visit):
    reader = visit(permissions=["clipboard-read", "clipboard-write"])
    reader.ask("How does pressure grow?")
    answer = reader.answered("everything")
    answer.get_by_label("Copy code").click()
    assert reader.page.evaluate("navigator.clipboard.readText()").startswith("def pressure(depth: float")
    answer.locator(".actions").get_by_label("Copy").click()
    assert "$$\np(h) = p_0" in reader.page.evaluate("navigator.clipboard.readText()")


def test_files_are_handed_in_kept_and_refused_in_words(visit, house):
    reader = visit()
    reader.page.set_input_files(
        "#file",
        [
            {"name": "log.txt", "mimeType": "text/plain", "buffer": b"Depth 11 km."},
            {"name": "photo.png", "mimeType": "image/png", "buffer": b"\x89PNG" + bytes(200)},
        ],
    )
    reader.page.locator(".chip.failed", has_text="not a text, PDF or DOCX").wait_for()
    reader.page.locator(".chip", has_text="log.txt").wait_for()
    reader.page.get_by_label("Delete: photo.png").click()
    reader.page.wait_for_timeout(600)
    reader.page.reload()
    reader.page.wait_for_selector("html[data-ready]")
    assert "log.txt" in reader.page.inner_text("#chips")
    reader.ask("What does it say?")
    reader.answered()
    assert "log.txt" in reader.page.inner_text(".question")
    assert "Depth 11 km." in house.answerer.seen[-1][0][-1].content


def test_chats_are_found_renamed_put_away_saved_and_deleted(visit):
    reader = visit()
    page = reader.page
    for text in ("about whales", "关于鲸鱼"):
        reader.home()
        reader.ask(text)
        reader.answered()
    page.fill("#find", "鲸")
    page.locator(".entry.hit mark", has_text="鲸").first.wait_for()
    page.fill("#find", "whal")
    page.locator(".entry.hit", has_text="whales").first.click()
    page.locator(".question", has_text="about whales").wait_for()
    page.fill("#find", "")
    menu = page.get_by_label("This chat")
    menu.click()
    page.get_by_role("menuitem", name="Rename").click()
    page.locator("dialog input").fill("Giants")
    page.locator("dialog input").press("Enter")
    page.locator(".entry", has_text="Giants").wait_for()
    menu.click()
    page.get_by_role("menuitem", name="New folder…").click()
    page.locator("dialog input").fill("Animals")
    page.locator("dialog input").press("Enter")
    page.locator("section", has_text="Animals").locator(".entry", has_text="Giants").wait_for()
    for form, words in (("Markdown", "# Giants"), ("JSON", "fathom-chat-1")):
        menu.click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=f"Save as {form}").click()
        assert words in download.value.path().read_text(encoding="utf-8")
        assert download.value.suggested_filename.startswith("Giants.")
    menu.click()
    page.get_by_role("menuitem", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_selector("#greeting:not([hidden])")
    assert page.locator(".entry").count() == 1


def test_a_shared_chat_is_read_without_scripts_until_the_link_ends(visit, browser, house):
    reader = visit()
    reader.ask("How does pressure grow?")
    reader.answered("everything")
    reader.page.get_by_label("This chat").click()
    reader.page.get_by_role("menuitem", name="Share…").click()
    reader.page.get_by_role("button", name="Make a link").click()
    link = reader.page.locator(".shares input").input_value()
    guest = browser.new_context(java_script_enabled=False).new_page()
    guest.goto(link)
    assert "rest on everything" in guest.inner_text("main")
    reader.page.get_by_role("button", name="End", exact=True).click()
    reader.page.wait_for_selector(".shares:empty", state="attached")
    assert guest.goto(link).status == 404
    guest.context.close()


def test_a_chat_that_fills_up_warns_and_goes_on_with_a_summary(visit, house):
    house.answerer.context_length = 100
    reader = visit()
    reader.ask("word " * 40)
    reader.answered()
    assert reader.page.inner_text("#meter").strip() == "85 %"
    reader.page.wait_for_selector("#near-full:not([hidden])")
    reader.page.get_by_role("button", name="Continue in a new chat with a summary").click()
    reader.answered("about one bar every ten metres")
    assert reader.page.locator(".message").count() == 1
    house.answerer.context_length = 1000
    reader.ask("And at 20 m?")
    reader.answered("know little")
    assert "about one bar every ten metres" in house.answerer.seen[-1][0][0].content


def test_the_reader_sees_that_the_policy_acted(visit, house):
    end = Ended("content_filter", rule="names", reason="No private names.")
    house.answerer.script = lambda messages, thinking: [end]
    reader = visit()
    reader.ask("Who?")
    notice = reader.answered().locator(".notice.policy")
    assert "rule “names”" in notice.inner_text()
    assert "No private names." in notice.inner_text()


def test_a_model_that_always_or_never_thinks_says_so(browser, tmp_path):
    answerer = Scripted()
    answerer.thinking = Thinking.NEVER
    with House(tmp_path / "data", answerer) as house:
        reader = Visitor(browser, house)
        reader.home()
        assert reader.page.get_attribute("#think", "aria-disabled") == "true"
        reader.page.dispatch_event("#think", "click")
        reader.page.get_by_text("no thinking mode").wait_for()
        reader.page.dispatch_event("#search", "click")
        reader.page.get_by_text("No folder of documents").wait_for()
        reader.close()


def test_everything_is_said_in_chinese_and_dark_when_asked(visit):
    reader = visit(locale="zh-CN", color_scheme="dark")
    page = reader.page
    assert page.get_attribute("html", "lang") == "zh-Hans"
    assert page.inner_text("#new-chat") == "新对话"
    page.click("#settings")
    page.select_option("#set-language", "en")
    assert page.inner_text("#new-chat") == "New chat"
    page.select_option("#set-theme", "light")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.inner_text("#new-chat") == "New chat"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 247)"


def test_both_languages_say_the_same_things():
    from importlib import resources

    text = resources.files("fathom.serve.page").joinpath("static/words.js").read_text(encoding="utf-8")
    entries = re.findall(r"^  (\w+): (\[.*\]),$", text, re.MULTILINE)
    assert len(entries) > 100
    for key, pair in entries:
        english, chinese = json.loads(pair)
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), key


def test_the_page_is_used_by_keyboard_alone(visit):
    reader = visit()
    page = reader.page
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    reader.answered("second line")
    assert "first line" in page.inner_text(".question")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.closest('.edit') !== null")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.press("Control+Shift+O")
    page.wait_for_selector("#greeting:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "ask"
    page.locator(".entry .icon-button").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "Share…"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-haspopup')") == "menu"
    page.locator(".entry a").focus()
    page.keyboard.press("Enter")
    reader.answered("second line")


def test_enter_does_not_send_while_chinese_is_composed(visit):
    reader = visit()
    reader.page.fill("#ask", "nihao")
    reader.page.evaluate(
        "document.getElementById('ask').dispatchEvent(new KeyboardEvent('keydown', "
        "{key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    reader.page.wait_for_timeout(200)
    assert reader.page.locator(".message").count() == 0


def test_a_phone_shows_everything_within_its_width(visit):
    reader = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page = reader.page
    reader.ask("How does pressure grow?")
    reader.answered("everything")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("visualViewport.scale") == 1
    assert not page.locator("#new-chat").is_visible()
    page.tap("#side-open")
    page.locator(".entry").wait_for()
    assert page.evaluate("document.querySelector('.main').inert")
    page.tap("#new-chat")
    page.wait_for_selector("#greeting:not([hidden])")
    assert not page.evaluate("document.querySelector('.main').inert")


def test_a_server_with_keys_asks_for_one(browser, tmp_path):
    keys = KeyStore(tmp_path / "keys.sqlite")
    secret = keys.add("ann")
    with House(tmp_path / "data", keys=keys) as house:
        reader = Visitor(browser, house)
        reader.page.goto(house.url)
        reader.page.locator("dialog input").fill("wrong")
        reader.page.locator("dialog input").press("Enter")
        reader.page.get_by_text("not one of this server's").wait_for()
        reader.page.locator("dialog input").fill(secret)
        reader.page.locator("dialog input").press("Enter")
        reader.page.wait_for_selector("html[data-ready]")
        reader.ask("hello")
        reader.answered("You said: hello")
        reader.close()
    keys.close()


def test_a_server_that_went_away_is_told_and_nothing_is_lost(visit, house):
    reader = visit()
    reader.ask("whales?")
    reader.answered()
    house.server.should_exit = True
    house.thread.join()
    reader.page.fill("#ask", "still here")
    reader.page.locator(".offline").wait_for()
    reader.page.keyboard.press("Enter")
    assert reader.page.input_value("#ask") == "still here"
