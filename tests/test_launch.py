"""The command begins again with large pages, once, and keeps what it was called with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from ftcot_jax import cli, launch
launch._PAGES = Path(os.environ["PAGES"])
cli.main = lambda: print(sys.argv[1:], os.environ.get("GLIBC_TUNABLES"), os.getpid() == int(os.environ["FIRST"]))
os.environ.setdefault("FIRST", str(os.getpid()))
launch.main()
"""


@pytest.mark.parametrize(
    ("pages", "before", "after"),
    [
        ("always [madvise] never", None, "glibc.malloc.hugetlb=1"),
        (
            "always [madvise] never",
            "glibc.malloc.trim_threshold=1",
            "glibc.malloc.trim_threshold=1:glibc.malloc.hugetlb=1",
        ),
        ("always [madvise] never", "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        ("[always] madvise never", None, None),
        ("always madvise [never]", None, None),
        (None, None, None),
    ],
)
def test_it_begins_again_where_large_pages_are_given_to_those_who_ask(
    pages: str | None, before: str | None, after: str | None, tmp_path: Path
) -> None:
    if pages is not None:
        (tmp_path / "enabled").write_text(pages)
    env = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    env |= {"PAGES": str(tmp_path / "enabled")} | ({} if before is None else {"GLIBC_TUNABLES": before})
    command = [sys.executable, "-c", PROGRAM, "run", "a b.yaml"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"['run', 'a b.yaml'] {after} True\n", done.stderr
