"""The settings that docs/api_students.md shows are settings there are."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.teacher.batch_settings import BatchFileSettings

PAGE = Path(__file__).parents[2] / "docs" / "api_students.md"


def test_settings_of_the_page() -> None:
    shown = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    ]
    assert [list(block) for block in shown] == [["batch"], ["batch"], ["api_student"]]
    assert BatchFileSettings(**shown[0]["batch"]).runner == "api"
    assert BatchFileSettings(**shown[1]["batch"]).command is not None
    student = ApiStudentSettings(**shown[2]["api_student"])
    assert student.hyperparameters() == {"n_epochs": 4}


def test_defaults_the_page_states() -> None:
    batch = BatchFileSettings()
    assert (batch.max_requests, batch.max_bytes, batch.settle_seconds, batch.rounds) == (50_000, 200_000_000, 30, 3)
    assert ApiStudentSettings(endpoint="http://x", model="m").max_tokens == 1024
