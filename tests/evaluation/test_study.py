"""The sample study as a file: its data, its escaping, what is left out."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from typing import Any

from ftcot_jax.evaluation.categories import CATEGORIES, REPETITION, RIGHT_BUT_SLIP, SLIP
from ftcot_jax.evaluation.study import build_study
from tests.evaluation.study_cases import HOSTILE, hostile, ordinary


class Elements(html.parser.HTMLParser):
    """Collects each element's attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("end", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)


def embedded(page: str) -> dict[str, Any]:
    (data,) = [text for tag, attributes, text in Elements(page).found if attributes.get("id") == "data"]
    found: dict[str, Any] = json.loads(data)
    return found


def test_hostile_texts_are_data_and_nothing_else() -> None:
    page = build_study(f"title {HOSTILE[1]}", hostile(), 1000).html
    elements = Elements(page).found
    assert [tag for tag, _, _ in elements].count("script") == 2
    assert not [tag for tag, _, _ in elements if tag in ("img", "b", "iframe", "object", "link")]
    assert not set("\u2028\u2029\x00") & set(page)
    raw = page[page.index('id="data">') : page.index("</script>")]
    assert "<" not in raw[10:]
    data = embedded(page)
    assert [question[2] for question in data["questions"][:-1]] == [f"Q {text}" for text in HOSTILE]
    assert data["texts"][0][4] == f"{HOSTILE[0]} --> 8"
    assert data["title"] == f"title {HOSTILE[1]}"


def test_the_policy_allows_its_own_script_and_style_and_no_network() -> None:
    page = build_study("t", ordinary(), 1000).html
    elements = Elements(page).found
    (policy,) = [
        attributes["content"] for tag, attributes, _ in elements if tag == "meta" and "http-equiv" in attributes
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        (text,) = [text for name, attributes, text in elements if name == tag and not attributes]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert not re.findall(r"https?://|\bsrc=|@import|url\(|innerHTML|insertAdjacent|document\.write|\beval\b", page)


def test_verdicts_and_categories() -> None:
    study = build_study("t", ordinary(), 1000)
    data = embedded(study.html)
    assert (study.texts, study.left_out, len(data["questions"])) == (96, 0, 46)
    assert data["about"] == "46 questions, 96 texts by 2 writers"
    assert data["students"] == ["even", "third"]
    assert [name for name, _ in data["categories"]] == list(CATEGORIES)
    assert (study.categories[SLIP], study.categories[RIGHT_BUT_SLIP], study.categories[REPETITION]) == (2, 1, 1)
    right = [row[6] for row in data["texts"][:45]]
    assert right == [index % 2 == 0 for index in range(45)]
    assert data["texts"][2][8] == ["2 + 2 = 5"]


def test_too_many_texts_leave_out_whole_questions_and_say_so() -> None:
    study = build_study("t", ordinary(), 30)
    data = embedded(study.html)
    assert study.texts + study.left_out == 96
    assert 20 <= study.texts <= 36
    assert f"; {study.left_out} more texts are left out" in data["about"]
    by_question = [row[0] for row in data["texts"] if data["datasets"][data["questions"][row[0]][0]] == "multiarith"]
    assert all(by_question.count(place) == 2 for place in by_question)
    assert max(data["questions"][place][1] for place in by_question) > 35  # spaced over all of them


def test_half_a_character_is_no_reason_to_fail() -> None:
    sheets = hostile()
    broken = sheets[0].completions[0].__class__(0, 0, "q \ud83d", "8", None, None, None, "p", "x \udc00 --> 8", None)
    page = build_study("t", [sheets[0].__class__("s", sheets[0].task, [broken], "-->", "paper")], 10).html
    assert embedded(page)["questions"][0][2] == "q ?"
