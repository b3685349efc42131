"""What docs/sweeps.md shows works as shown."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from ftcot_jax.cli import main
from tests.stages.test_road import TINY

PAGE = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text()
REPORT = PAGE.partition("\n## Report\n")[2].partition("\n## ")[0]


def ftcot(*words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ftcot", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code


@pytest.mark.slow
def test_every_report_command_and_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("RECIPE.yaml").write_text(TINY.replace("{seed: [1, 2]}", "{seed: [1]}").replace("steps: 12", "steps: 2"))
    ftcot("run", "RECIPE.yaml", "--out", "RUN")
    commands = [
        line.split("#")[0]
        for block in re.findall(r"```sh\n(.*?)```", REPORT, flags=re.S)
        for line in block.splitlines()
    ]
    assert len(commands) == 3
    for command in commands:
        ftcot(*shlex.split(command)[1:])
    rows = re.findall(r"^\| (`.*?) \|", REPORT, flags=re.M)
    assert len(rows) == 6
    for name in (name for row in rows for name in re.findall(r"`(.*?)`", row)):
        assert list(Path("RUN/report").glob(name.removesuffix("/"))), name
