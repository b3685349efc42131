"""The design table of docs/tpu_compile.md: students compiled for pods that are not here.

    python benchmarks/pod_table.py                       # all of it: hours on two cores
    python benchmarks/pod_table.py gpt2 --topology v5e:4x4

Figures are added to benchmarks/pod_table.json as they come, and the page's table is written from it. Each row is the
train step alone, of the records a slot that it says, each of 192 tokens, 96 of them labels, two to a row.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import re
from pathlib import Path
from typing import Any

import jax

from ftcot_jax.bench.compile_chips import GIB, find_topology
from ftcot_jax.bench.compile_figures import as_json, figures_of
from ftcot_jax.bench.compile_programs import Setup
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.training.flops import StepFlops, peak_flops
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings

PAGE = Path(__file__).parents[1] / "docs" / "tpu_compile.md"
STORE = Path(__file__).with_name("pod_table.json")
RECORD, LABELS = 192, 96

_T5 = {"model_type": "t5", "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "d_kv": 64, "dropout_rate": 0.1}
STUDENTS: dict[str, dict[str, Any]] = {  # as the published configs
    "gpt2": {"model_type": "gpt2", "vocab_size": 50257},
    "gpt2-large": {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 1280, "n_layer": 36, "n_head": 20},
    "flan-t5-base": _T5 | {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12},
    "flan-t5-large": _T5 | {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 16},
    "smollm2-135m": {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "qwen2.5-1.5b": {
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960,
        "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "llama-3-8b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 500000.0,
        "tie_word_embeddings": False,
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a student is laid over a pod: chips a trial, slots that those hold, records a slot, what is recomputed."""

    chips: int = 1
    slots: int = 1
    records: int = 8
    remat: str = "none"
    dropout: bool = True


# Set by hand: few slots that fit, or as few chips a trial as its state seems to need. Not shown to be the best.
LAYOUTS: dict[str, Layout] = {
    "gpt2": Layout(slots=2),
    "gpt2-large": Layout(chips=4, records=8),
    "flan-t5-base": Layout(slots=1),
    "flan-t5-large": Layout(chips=4, records=8),
    "smollm2-135m": Layout(slots=2),
    "qwen2.5-1.5b": Layout(chips=16, records=32, remat="full"),
    "llama-3-8b": Layout(chips=16, records=32, remat="full"),
}


def row(name: str, topology: str, layout: Layout) -> dict[str, Any]:
    """Compiles a student's train step for a pod."""
    settings = StudentSettings.model_validate(
        {"scratch": STUDENTS[name], "dtype": "bfloat16", "remat": layout.remat, "dropout": layout.dropout}
    )
    student, place = load_student(settings, ["word"]), find_topology(topology)
    assert place.chip is not None
    mesh = make_mesh(MeshSettings(trial=-1, fsdp=layout.chips), place.devices)
    decoder = student.kind == "decoder"
    parts = (RECORD,) if decoder else (LABELS, RECORD - LABELS)
    rows = -(-layout.records // (2 * layout.chips)) * layout.chips
    shape = BatchShape(rows, 2 * parts[0], layout.records * LABELS, layout.records, 0 if decoder else 2 * parts[1])
    slots = mesh.shape["trial"] * layout.slots
    setup = Setup(student, mesh, slots, "vmap", Hyper.of(TrainSettings(), 1000), shape)
    peak = peak_flops([place.devices[0]], "bfloat16")
    assert peak is not None
    axes = {axis: int(size) for axis, size in mesh.shape.items()}
    found = figures_of("train step", setup.step(), axes, place.chip, peak)
    model = StepFlops.of(student.shapes_by_path, jax.eval_shape(student.head, student.shapes).shape)
    import numpy as np

    lengths = np.tile(np.array(parts), (layout.records, 1))
    needed = slots * model.total(lengths, np.full(layout.records, LABELS))
    values = as_json(found) | dataclasses.asdict(layout)
    values |= {"student": name, "topology": topology, "mesh": axes, "total_slots": slots, "needed_flops": needed}
    if found.roofline is not None:
        at = found.roofline.seconds
        values |= {
            "limit": found.roofline.limit,
            "mfu_at_most": needed / (at * peak * mesh.size),
            "examples_per_second_at_most": slots * layout.records / at,
        }
    import libtpu

    values |= {"date": datetime.date.today().isoformat(), "jax": jax.__version__, "libtpu": libtpu.__version__}
    return values


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as markdown."""
    head = (
        "| student | pod | mesh | slots | records a slot | remat | GiB a chip | fits | limit | MFU at most | "
        "examples/s at most | MB received a step and chip | while computing | compiled |"
    )
    lines = [head, "|" + "---|" * 14]
    for one in sorted(rows, key=lambda one: (list(STUDENTS).index(one["student"]), one["topology"], one["chips"])):
        mesh = " x ".join(f"{axis} {size}" for axis, size in one["mesh"].items() if size > 1)
        start = [one["student"], one["topology"], mesh, one["total_slots"], one["records"], one["remat"]]
        if one["memory_bytes"] is None:
            rest = [f"> {one['needed_bytes'] / GIB:.1f}", "no", *["-"] * 5]
        else:
            wire = sum(part["bytes"] for part in one["collectives"])
            hidden = sum(part["overlapped_bytes"] for part in one["collectives"])
            rest = [
                f"{one['needed_bytes'] / GIB:.2f}",
                "yes" if one["fits"] else "no",
                one["limit"],
                f"{100 * one['mfu_at_most']:.0f}%",
                f"{one['examples_per_second_at_most']:.0f}",
                f"{wire / 1e6:.1f}" if wire else "none",
                f"{100 * hidden / wire:.0f}%" if wire else "-",
            ]
        lines.append("| " + " | ".join(map(str, [*start, *rest, f"{one['date']}, libtpu {one['libtpu']}"])) + " |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("students", nargs="*", default=list(STUDENTS))
    arguments.add_argument("--topology", action="append")
    for field in dataclasses.fields(Layout):
        if field.name != "dropout":
            arguments.add_argument(f"--{field.name}", type=type(field.default))
    given = arguments.parse_args()
    changes = {
        field.name: getattr(given, field.name)
        for field in dataclasses.fields(Layout)
        if getattr(given, field.name, None) is not None
    }
    for topology in given.topology or ["v5e:4x4", "v5e:16x16", "v6e:16x16"]:
        for name in given.students:
            found = row(name, topology, dataclasses.replace(LAYOUTS[name], **changes))
            same = ("student", "topology", "chips", "slots", "records", "remat")
            kept = json.loads(STORE.read_text()) if STORE.exists() else []
            kept = [old for old in kept if any(old[key] != found[key] for key in same)]
            STORE.write_text(json.dumps([*kept, found], indent=1) + "\n")
            print(table([found]).splitlines()[-1], flush=True)
    if PAGE.exists():
        start, end = "<!-- pod_table: begin -->\n", "<!-- pod_table: end -->"
        page = PAGE.read_text()
        new = f"{start}{table(json.loads(STORE.read_text()))}\n{end}"
        PAGE.write_text(re.sub(f"{re.escape(start)}.*{re.escape(end)}", lambda _: new, page, flags=re.S))


if __name__ == "__main__":
    main()
