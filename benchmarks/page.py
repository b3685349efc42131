"""Writes a benchmark's Markdown into its place of docs/performance.md.

    ftcot bench sweep RECIPE | python -m benchmarks.page "bench sweep"
    python -m benchmarks.peers.table benchmarks/peers.json | python -m benchmarks.page peers

A place lies between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
"""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def write_place(name: str, content: str, page: Path = PAGE) -> None:
    """Puts `content` into the place of that name, instead of what is there.

    Raises:
      ValueError: the page has no such place.
    """
    start, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, begins, rest = page.read_text(encoding="utf-8").partition(start)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(f"{page}: no place for {name}: {start.strip()} ... {end}")
    page.write_text(f"{before}{start}{content.strip()}\n{end}{after}", encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    content = sys.stdin.read()
    if not content.strip():
        sys.exit("nothing came on standard input; the page is left as it is")
    try:
        write_place(sys.argv[1], content)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
