"""Export: the same bits for `transformers`; loading holds little more than a host's share in memory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from ftcot_jax.cli import main
from ftcot_jax.errors import UsageError
from ftcot_jax.students.export import export_student
from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student


def test_the_command_writes_the_same_bits_in_shards(
    written: Callable[[str], Student],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = written("llama").folder
    command = ["ftcot", "export", str(source), "--to", str(tmp_path / "out"), "--shard-gb", "4e-5"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert f"{tmp_path / 'out'}: {source} in float32" in capsys.readouterr().out
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    original = safetensors.numpy.load_file(source / "model.safetensors")  # type: ignore[operator]
    assert index["weight_map"].keys() == original.keys()
    for file in sorted(set(index["weight_map"].values())):
        for name, tensor in safetensors.numpy.load_file(tmp_path / "out" / file).items():
            assert tensor.tobytes() == original[name].tobytes()


def test_what_cannot_be_exported_is_one_line(written: Callable[[str], Student], tmp_path: Path) -> None:
    source = written("llama").folder
    assert source is not None
    with pytest.raises(UsageError, match=r"nothing: there is no student here; give a student artefact"):
        export_student(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UsageError, match=r"there is a model already"):
        export_student(source, source)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_loads_an_export(case: str, dtype: str, written: Callable[[str], Student], tmp_path: Path) -> None:
    import torch
    import transformers

    student = written(case)
    source = student.folder
    assert source is not None
    export_student(source, tmp_path / "out", dtype, shard_bytes=40_000)  # type: ignore[arg-type]
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    kind = getattr(transformers, config.architectures[0])
    one, other = (kind.from_pretrained(place, dtype=dtype) for place in (source, tmp_path / "out"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    # AutoTokenizer makes a Qwen2Tokenizer for every Qwen2, whatever tokenizer is saved, these words' one too.
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")
    assert tokenizer("w3 w5").input_ids == student.encode(["w3 w5"])[0] != []
    if config.model_type != "qwen2":
        assert (
            transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("w3 w5").input_ids
            == tokenizer("w3 w5").input_ids
        )


LOAD = """
import re, sys
from pathlib import Path
import jax

def memory(kind):
    return 1024 * int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

folder, address, number = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(number))
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.training.mesh import make_mesh, params_shardings
from ftcot_jax.training.settings import MeshSettings

student = load_student(StudentSettings(checkpoint=folder))
mesh = make_mesh(MeshSettings(fsdp=2))
places = params_shardings(mesh, student.sharding_rules, student.shapes)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = memory("VmRSS")
params = jax.block_until_ready(student.load(places))
peak = memory("VmHWM") - before
share = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
print(peak, share, sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
"""


@pytest.mark.slow
def test_each_of_two_hosts_holds_its_share_while_loading(tmp_path: Path) -> None:
    """A 160 MB checkpoint in bfloat16, in five files: 320 MB of params, of which a host keeps half."""
    fields = {"model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8}
    settings = StudentSettings(scratch=fields | {"num_hidden_layers": 24, "vocab_size": 8192})
    student = load_student(settings, ["a", "b"])
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), student.shapes)
    save_student(student, params, tmp_path, "bfloat16", shard_bytes=40_000_000)
    assert len(list(tmp_path.glob("*.safetensors"))) >= 4
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {"JAX_PLATFORMS": "cpu", "PATH": "", "XLA_FLAGS": ""}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, str(tmp_path), address, str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        for number in range(2)
    ]
    for host in hosts:
        out, error = host.communicate(timeout=200)
        assert host.returncode == 0, error[-2000:]
        peak, share, whole = map(int, out.split())
        print(f"peak {peak / 1e6:.0f} MB, share {share / 1e6:.0f} MB, whole {whole / 1e6:.0f} MB")
        assert whole > 300e6
        assert share < 0.55 * whole
        assert peak > 0.9 * share
        # Besides the share: the largest stacked parameter's (35 MB) twice, on its way to the device, and the program.
        assert peak < share + 80e6, f"{peak / 1e6:.0f} MB at the peak for a share of {share / 1e6:.0f} MB"
