"""A local student asked through its own chat template."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcot_jax.config import load_recipe
from ftcot_jax.errors import UsageError
from ftcot_jax.stages.run import STAGES
from ftcot_jax.students.word_tokenizer import word_tokenizer
from ftcot_jax.tasks.weekday import vocabulary
from tests.stages.test_selection import TINY

TEMPLATE = (
    "{% for message in messages %}{{ message.role }} : {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def recipe(folder: Path, template: str | None) -> str:
    tokenizer = word_tokenizer([*vocabulary(), "user", "assistant", ":"])
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / "tokenizer")
    scratch = TINY.replace("student:\n", f"student:\n  tokenizer: {folder}/tokenizer\n")
    (folder / "tiny.yaml").write_text(f"{scratch}chat: true\nout: {folder}/out\n")
    return str(folder / "tiny.yaml")


def test_prompts_are_rendered_by_the_students_chat_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    STAGES["curate"](*load_recipe(recipe(tmp_path, TEMPLATE)))
    pairs = next(tmp_path.glob("out/artifacts/pairs-*/pairs.jsonl")).read_text().splitlines()
    assert len(pairs) == 28 * 3
    assert pairs[0].count('"prompt": "user : ') == 1
    assert '? assistant :", "label": "' in pairs[0]
    assert " --> " in pairs[0]


def test_a_tokenizer_without_a_chat_template_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tiny: the student's tokenizer has no chat template; set chat=false"):
        STAGES["curate"](*load_recipe(recipe(tmp_path, None)))
