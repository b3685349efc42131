"""A table, and the forms a reader may want it in: Markdown, LaTeX, CSV, HTML by the page."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

# Keys are looked up one character at a time, so no replacement is replaced again.
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # either would be read as an argument of the row before
    "*": "{*}",
    "–": "--",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "\u2212": r"$-$",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells under a head.

    Attributes:
      name: of its files.
      title: its heading.
      head: a cell a column.
      rows: of as many cells each. A cell may hold `**bold**`.
      words: leading columns that are words; the others are figures.
      quiet: rows that are there for comparison only, by number.
      notes: what a reader must know, a paragraph each.
    """

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    quiet: frozenset[int] = frozenset()
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table and its notes; a bar or line break in a cell is defused."""
        notes = "".join(f"\n{note}\n" for note in self.notes)
        rows = [
            [f"*{cell}*" if cell and number in self.quiet else cell for cell in row]
            for number, row in enumerate(self.rows)
        ]
        return markdown(self.head, rows) + notes

    def latex(self) -> str:
        """A `table` environment with booktabs' rules, every text escaped; for `\\usepackage{booktabs}`."""
        columns = "l" * self.words + "r" * (len(self.head) - self.words)
        lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [_latex_row(self.head), r"\midrule"]
        for number, row in enumerate(self.rows):
            if number > 0 and (number in self.quiet) != (number - 1 in self.quiet):
                lines.append(r"\midrule")
            lines.append(_latex_row(row))
        caption = " ".join([self.title, *self.notes])
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_latex(caption)}}}"]
        return "\n".join([*lines, rf"\label{{tab:{self.name}}}", r"\end{table}"]) + "\n"

    def csv(self) -> str:
        """Cells as they are, without marks of bold."""
        out = io.StringIO()
        csv.writer(out).writerows([[plain(cell) for cell in row] for row in (self.head, *self.rows)])
        return out.getvalue()


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar or line break in a cell is defused."""
    first, *rest = (f"| {' | '.join(_cell(cell) for cell in line)} |" for line in (head, *rows))
    return "\n".join([first, "|" + "---|" * len(head), *rest]) + "\n"


def plain(cell: str) -> str:
    """A cell without its marks of bold."""
    return cell[2:-2] if is_bold(cell) else cell


def is_bold(cell: str) -> bool:
    return len(cell) > 4 and cell.startswith("**") and cell.endswith("**")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _latex_row(cells: Sequence[str]) -> str:
    shown = [rf"\textbf{{{_latex(plain(cell))}}}" if is_bold(cell) else _latex(cell) for cell in cells]
    return " & ".join(shown) + r" \\"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()) if sign.isprintable())
