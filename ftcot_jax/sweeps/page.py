"""The report as one HTML page, complete in itself: no script, no network, every text escaped."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.resources
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from ftcot_jax.sweeps.table import Table, is_bold, plain

# What matplotlib writes around a drawing, none of which a page needs; its style sheet is in ours.
_AROUND = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.S)
_SIZE = re.compile(r'<svg([^>]*?) width="([\d.]+)pt" height="[\d.]+pt"', re.S)
_PIXELS_A_POINT = 1.5
_MOST_ROWS = 60  # of a table that is not folded away


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure on the page: the stem of its files, its heading, and matplotlib's SVG."""

    name: str
    title: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page, with what is in it in order."""

    title: str
    parts: Sequence[Table | Drawing]


def build_page(
    title: str,
    facts: Sequence[tuple[str, str]],
    missing: Sequence[str],
    sections: Sequence[Section],
    study: str | None,
) -> str:
    """Makes the page.

    Args:
      title: its heading.
      facts: of the run, with their names.
      missing: lines on what is not finished.
      sections: those without parts are left out.
      study: address of the sample study, relative to the page; None for none.
    """
    files = importlib.resources.files("ftcot_jax.sweeps") / "report_page"
    style = (files / "report.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_visible
    )
    environment.filters |= {"drawing": _drawing, "plain": plain}
    environment.tests |= {"table": _is_table, "bold": is_bold}
    html = environment.from_string((files / "report.html").read_text(encoding="utf-8")).render(
        title=title,
        facts=facts,
        missing=missing,
        sections=[section for section in sections if section.parts],
        study=study,
        most_rows=_MOST_ROWS,
        style=Markup(style),
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    # Half a character, as a broken name may hold, has no UTF-8.
    return html.encode(errors="replace").decode()


def _visible(value: Any) -> Any:
    """Text without what would not be seen or turns what follows around; what is a part of the page stays."""
    if type(value) is not str:
        return value
    return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in value)


def _is_table(part: Any) -> bool:
    return isinstance(part, Table)


def _drawing(drawing: Drawing) -> Markup:
    """The SVG as an element of the page; it is matplotlib's own, and text in it is drawn as outlines."""
    svg = _AROUND.sub("", drawing.svg).strip()
    size = _SIZE.match(svg)
    assert size is not None  # matplotlib writes it so
    label, width = Markup.escape(drawing.title), _PIXELS_A_POINT * float(size[2])
    head = f'<svg role="img" aria-label="{label}" style="max-width: {width:.0f}px"{size[1]}'
    return Markup(head + svg[size.end() :])
