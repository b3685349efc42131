"""The real ``vllm run-batch``, opt-in: FTCOT_VLLM_PYTHON has vLLM, FTCOT_VLLM_MODEL is a folder with a chat template.

FTCOT_VLLM_PYTHON=... FTCOT_VLLM_MODEL=... pytest -m vllm tests/teacher/test_vllm_run_batch.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftcot_jax.teacher.batch_api import sample_by_batch
from ftcot_jax.teacher.batch_settings import BatchSettings
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.test_batch_api import QUESTIONS

CPU = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}


@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_both_steps_with_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, model = os.environ.get("FTCOT_VLLM_PYTHON"), os.environ.get("FTCOT_VLLM_MODEL")
    if not python or not model:
        pytest.skip("FTCOT_VLLM_PYTHON and FTCOT_VLLM_MODEL are not set")
    for name, value in CPU.items():
        monkeypatch.setenv(name, value)
    # The `vllm` command itself fails in vllm-cpu for want of package metadata; the module is the same program.
    words = [python, "-m", "vllm.entrypoints.openai.run_batch", "-i", "{input}", "-o", "{output}"]
    options = ["--model", "{model}", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
    batch = BatchSettings(runner="local", form="chat", command=words + options, poll_seconds=1)
    teacher = TeacherSettings(
        endpoint="http://unused", model=model, diversity=4, seed=1, max_tokens=16, answer_max_tokens=4
    )
    sampled = sample_by_batch(teacher, batch, QUESTIONS[:2], tmp_path)
    places = [(row.sample_index, row.completion_index) for row in sampled.completions]
    assert places == [(index, number) for index in range(2) for number in range(4)]
    assert len({row.reasoning_completion for row in sampled.completions}) > 4
    assert sampled.account.prompt_tokens > 0
    assert sampled.refused == {}
    more = sample_by_batch(teacher.model_copy(update={"diversity": 5}), batch, QUESTIONS[:2], tmp_path)
    assert [row for row in more.completions if row.completion_index < 4] == sampled.completions
    assert len(more.completions) == 10
