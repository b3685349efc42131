"""The report's page: escaped, complete in itself, everything of the report on it; in headless Chromium too."""

from __future__ import annotations

import dataclasses
import html.parser
import re
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.sweeps.page import build_page
from ftcot_jax.sweeps.sections import report_markdown, report_sections
from ftcot_jax.sweeps.table import Table
from tests.sweeps.cases import grid

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> \"' & --> {{ 7 * 7 }} \x00\u202e|"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page and the Markdown of a sweep whose names are hostile."""
    folder = tmp_path_factory.mktemp("report")
    results = [
        dataclasses.replace(row, arm=f"{HOSTILE} {row.arm}", name=f"{HOSTILE} {row.name}")
        for row in grid(students=("gpt2", "gpt2-large"), degrees=(1, 2, 8), seeds=2)
    ]
    teachers = Table("teachers", "The teacher", ["teacher", "accuracy %"], [[HOSTILE, "**50.0**"]], notes=[HOSTILE])
    sections = report_sections(results, [row.condition for row in results], teachers, {}, HOSTILE, folder)
    missing = ["1 of 29 trials are not finished yet, 1 failed.", f"Failed: {HOSTILE}: {HOSTILE}"]
    text = build_page(HOSTILE, [("devices", HOSTILE), ("jax", "0.10.2")], missing, sections, "study.html")
    (folder / "report.html").write_text(text, encoding="utf-8")
    (folder / "report.md").write_text(report_markdown(HOSTILE, missing, sections), encoding="utf-8")
    return folder


def test_nothing_hostile_is_markup_and_nothing_comes_from_outside(page: Path) -> None:
    text = (page / "report.html").read_text(encoding="utf-8")
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(text)
    names = {tag for tag, _ in tags}
    assert not names & {"script", "img", "iframe", "object", "link", "form", "image", "foreignobject"}
    assert {"table", "svg", "figure", "details"} <= names
    for tag, attributes in tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        target = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert target.startswith("#") or target == "study.html"
    assert "{{" in text  # of the name, and not put in by the template
    assert "49" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.S).split("<dl>")[1]
    assert "\x00" not in text
    assert "\u202e" not in text


def test_markdown_has_every_table_and_figure(page: Path) -> None:
    text = (page / "report.md").read_text(encoding="utf-8")
    assert text.splitlines()[0].startswith("# <script>")
    assert re.findall(r"^## (.*)", text, flags=re.M) == [
        "Methods and datasets",
        "The teacher",
        "What accuracy depends on",
        "Paired tests",
        "How the answers were written",
        "Accuracy by epoch",
        "Cost",
        "Training",
    ]
    for file in re.findall(r"^!\[.*\]\((.*)\)$", text, flags=re.M):
        assert (page / file).is_file()
    assert "not finished yet" in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |")


@pytest.mark.browser
def test_the_page_in_a_browser(browser: Any, page: Path) -> None:
    browser.get((page / "report.html").as_uri())
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.scripts.length + document.images.length") == 0
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\u202e", "\ufffd")
    assert browser.find_element("tag name", "h1").text == shown
    assert browser.find_element("css selector", "tbody td").text.startswith(shown)
    assert len(browser.find_elements("css selector", "figure svg")) == 5
    assert browser.find_element("tag name", "svg").size["width"] > 500
    # The policy lets the page's own style and matplotlib's colours through.
    fills = "return [...document.querySelectorAll('svg path')].map((one) => getComputedStyle(one).stroke)"
    assert "rgb(0, 114, 178)" in browser.execute_script(fills)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    target = browser.find_element("link text", "Cost").get_attribute("href").partition("#")[2]
    assert browser.find_element("id", target).find_element("tag name", "h2").text == "Cost"
    details = browser.find_element("css selector", "section details")
    assert not details.find_element("tag name", "pre").is_displayed()
    details.find_element("tag name", "summary").click()
    assert details.find_element("tag name", "pre").text.startswith(r"\begin{table}")


@pytest.mark.browser
def test_a_phones_width_and_the_dark(browser: Any, page: Path) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get((page / "report.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        wide = "const box = document.querySelector('.scroll'); return box.scrollWidth > box.clientWidth"
        assert browser.execute_script(wide)  # the table scrolls, the page does not
        colour = "return getComputedStyle(document.body).backgroundColor"
        light = browser.execute_script(colour)
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        assert browser.execute_script(colour) != light
        assert (
            browser.execute_script("return getComputedStyle(document.querySelector('figure svg')).backgroundColor")
            == "rgb(255, 255, 255)"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
