"""`ftcot sample --dry-run` says what it would take and touches nothing."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from ftcot_jax.cli import app
from tests.teacher.fault_server import FaultServer

RECIPE = """
name: dry
task: {key: weekday_tracking, train_questions: 12, test_questions: 3}
teacher: {endpoint: URL, model: gpt-4o-mini, diversity: 4}
student: {scratch: {model_type: llama, hidden_size: 64}}
sweep: {axes: [{select.diversity: [1, 4]}]}
"""


def test_dry_run(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        (tmp_path / "r.yaml").write_text(RECIPE.replace("URL", server.url))
        done = CliRunner().invoke(app, ["sample", str(tmp_path / "r.yaml"), "--dry-run", f"--out={tmp_path / 'out'}"])
        assert done.exit_code == 0, done.output
        assert server.bodies == []
    assert not (tmp_path / "out").exists()
    lines = done.stdout.splitlines()
    assert lines[0] == "weekday_tracking, gpt-4o-mini, D=4, seed 0:"  # once, although two trials need it
    assert lines[1].strip() == "0 of 12 questions are in the ledger already"
    assert "48 samples in 12 requests" in lines[2]
    assert "48 samples in 48 requests" in lines[3]
    assert re.fullmatch(r"  in all \$0\.\d\d at most", lines[4])
