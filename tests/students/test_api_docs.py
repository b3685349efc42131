"""The settings that docs/api_students.md shows are settings there are."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.teacher.batch_settings import BatchSettings

PAGE = Path(__file__).parents[2] / "docs" / "api_students.md"


def test_settings_of_the_page() -> None:
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)]
    assert [list(block) for block in shown] == [["batch"], ["batch"], ["api_student"]]
    assert BatchSettings(**shown[0]["batch"]).runner == "api"
    assert BatchSettings(**shown[1]["batch"]).form == "chat"
    student = ApiStudentSettings(**shown[2]["api_student"])
    assert student.hyperparameters() == {"n_epochs": 4}


def test_defaults_the_page_states() -> None:
    batch = BatchSettings()
    assert (batch.max_requests, batch.max_bytes, batch.settle_seconds, batch.rounds) == (50_000, 200_000_000, 30, 3)
    assert ApiStudentSettings(endpoint="http://x", model="m").max_tokens == 1024
