"""The sample study in headless Chromium: hostile texts stay text; filters, pages, keys and widths work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.evaluation.study import build_study
from tests.evaluation.study_cases import HOSTILE, hostile, ordinary

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Opens the page of two ordinary students, with a hash."""
    file = tmp_path_factory.mktemp("study") / "study.html"
    file.write_text(build_study("two students", ordinary(), 1000).html, encoding="utf-8")

    def open_page(place: str = "") -> None:
        browser.get("about:blank")
        browser.get(f"{file.as_uri()}{place}")

    return open_page


def status(browser: Any) -> str:
    said: str = browser.find_element("id", "status").text
    return said


def choose(browser: Any, field: str, text: str) -> None:
    browser.execute_script(
        "const field = document.getElementById(arguments[0]);"
        "const [text, options] = [arguments[1], [...field.options]];"
        "field.value = (options.find((one) => one.text === text)"
        " || options.find((one) => one.text.startsWith(text))).value;"
        "field.dispatchEvent(new Event('change', {bubbles: true}));",
        field,
        text,
    )


def cards(browser: Any) -> list[str]:
    return [card.text for card in browser.find_elements("css selector", "article")]


def test_hostile_texts_are_read_and_not_run(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "hostile.html").write_text(build_study(HOSTILE[1], hostile(), 1000).html, encoding="utf-8")
    browser.get((tmp_path / "hostile.html").as_uri())
    time.sleep(0.5)
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.images.length + document.querySelectorAll('b, i').length") == 0
    assert browser.execute_script("return document.scripts.length") == 2
    assert browser.find_element("tag name", "h1").text == HOSTILE[1]
    found = cards(browser)
    assert len(found) == 9
    for text, card in zip(HOSTILE[:4], found, strict=False):
        assert card.count(" ".join(text.split())) >= 2  # in the question and in the answer
    assert "a[U+202E]evil[U+202C] b" in found[4]
    assert "[U+0000]four" in found[5]
    assert "<b>bold</b> &lt;i&gt; &amp;" in found[7]
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_filters(browser: Any, page: Callable[..., None]) -> None:
    page()
    assert status(browser) == "46 questions, 96 texts, 43.8% right"
    choose(browser, "dataset", "multiarith")
    choose(browser, "student", "even")
    assert status(browser) == "45 questions, 45 texts, 51.1% right"
    choose(browser, "outcome", "wrong")
    assert status(browser) == "22 questions, 22 texts, 0.0% right"
    choose(browser, "category", "arithmetic slip (2)")
    (card,) = cards(browser)
    assert "question 3" in card
    assert "wrong: 2 + 2 = 5" in card
    assert browser.find_element("tag name", "mark").text == "2 + 2 = 5"
    choose(browser, "outcome", "right or wrong")
    choose(browser, "category", "right answer, wrong equation")
    assert "question 2" in cards(browser)[0]
    browser.find_element("css selector", "button[type=reset]").click()
    time.sleep(0.1)
    assert status(browser).startswith("46 questions")
    choose(browser, "category", "none of these")
    assert status(browser).startswith("46 questions, 93 texts")


def test_two_students_beside_each_other(browser: Any, page: Callable[..., None]) -> None:
    page()
    assert not browser.find_element("id", "change").is_enabled()
    choose(browser, "student", "even")
    choose(browser, "other", "third")
    assert status(browser).startswith("45 questions")  # svamp has one student only
    choose(browser, "change", "changed")
    assert status(browser).startswith("22 questions")  # even or a multiple of three, not both
    choose(browser, "change", "only the student")
    assert status(browser).startswith("15 questions")
    choose(browser, "change", "only the other")
    assert status(browser).startswith("7 questions")
    first = browser.find_element("tag name", "article")
    left, right = first.find_elements("css selector", ".text")
    assert left.location["x"] < right.location["x"]
    assert (left.get_attribute("class"), right.get_attribute("class")) == ("text wrong", "text right")


def test_search_and_keys(browser: Any, page: Callable[..., None]) -> None:
    page()
    body = browser.find_element("tag name", "body")
    body.send_keys("/")
    search = browser.switch_to.active_element
    assert search.get_attribute("id") == "search"
    search.send_keys("PEARS 17")
    time.sleep(0.4)
    assert status(browser).startswith("1 question, 1 text,")
    search.send_keys("\ue00c")  # Escape
    assert browser.switch_to.active_element.tag_name == "body"
    page()
    assert browser.find_element("id", "page").text == "page 1 of 3"
    body = browser.find_element("tag name", "body")
    body.send_keys("n")
    assert browser.find_element("id", "page").text == "page 2 of 3"
    assert len(cards(browser)) == 20
    body.send_keys("jj")
    assert "question 21" in browser.switch_to.active_element.text
    browser.switch_to.active_element.send_keys("k")
    assert "question 20" in browser.switch_to.active_element.text
    browser.switch_to.active_element.send_keys("p")
    assert browser.find_element("id", "page").text == "page 1 of 3"


def test_an_address_brings_the_same_view_back(browser: Any, page: Callable[..., None]) -> None:
    page("#student=1&outcome=right&page=2")
    assert status(browser).startswith("15 questions, 15 texts, 100.0% right")
    assert browser.find_element("id", "page").text == "page 1 of 1"
    page("#student=99&category=x&page=nonsense")
    assert status(browser).startswith("46 questions")


def test_long_texts_and_many_texts_unfold(browser: Any, page: Callable[..., None]) -> None:
    page("#search=long")
    (more,) = browser.find_elements("css selector", ".more")
    folded = browser.find_element("css selector", ".folded")
    height = folded.size["height"]
    more.click()
    assert folded.size["height"] > 2 * height
    page("#search=riddle")
    assert len(browser.find_elements("css selector", ".text")) == 4
    browser.find_element("css selector", ".more").click()
    assert len(browser.find_elements("css selector", ".text")) == 6


def test_a_phones_width_and_the_dark(browser: Any, page: Callable[..., None]) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page("#student=0&other=1&change=gained")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        left, right = browser.find_element("tag name", "article").find_elements("css selector", ".text")
        assert left.location["x"] == right.location["x"]
        colour = "return getComputedStyle(document.body).backgroundColor"
        light = browser.execute_script(colour)
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        assert browser.execute_script(colour) != light
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
