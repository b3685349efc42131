"""The design table of docs/tpu_compile.md: students compiled for pods that are not here.

    python -m benchmarks.pod_table                          # a search over layouts, all students: hours on two cores
    python -m benchmarks.pod_table gpt2 --chip v5e --most 2   # the next two layouts of one student, on one chip
    python -m benchmarks.pod_table gpt2 --chip v5e --records 32 --slots 2 --remat full   # this layout
    python -m benchmarks.pod_table --most 0                 # only writes the page

A layout takes one to five minutes. It is compiled for the smallest topology whose chips do the same as those of a
larger pod, and the row says for which. Rows are added to benchmarks/pod_table.json as they come, one that is there is
not compiled again, and the page's tables are written from them. Each row is the train step alone, of the records a
slot that it says, each of 192 tokens, 96 of them labels, two to a row.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.pod_layouts import PODS, Layout, Row, compiled_for, to_compile
from benchmarks.pod_page import all_table, best_table, bytes_table
from ftcot_jax.bench.compile_bytes import bytes_by_purpose
from ftcot_jax.bench.compile_chips import CHIPS, find_topology
from ftcot_jax.bench.compile_figures import RESERVED, as_json, figures_of
from ftcot_jax.bench.compile_programs import Setup
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.flops import StepFlops, peak_flops
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings

PAGE = Path(__file__).parents[1] / "docs" / "tpu_compile.md"
STORE = Path(__file__).with_name("pod_table.json")
RECORD, LABELS = 192, 96

_T5 = {"model_type": "t5", "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "d_kv": 64, "dropout_rate": 0.1,
       "tie_word_embeddings": False}  # fmt: skip
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
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
}  # fmt: skip


def student_of(name: str, layout: Layout) -> Student:
    return load_student(
        StudentSettings.model_validate(
            {"scratch": STUDENTS[name], "dtype": "bfloat16", "remat": layout.remat, "dropout": layout.dropout}
        ),
        ["word"],
    )


def compiled_row(name: str, chip: str, layout: Layout) -> Row:
    """Compiles a student's train step for a pod of such chips."""
    student, place = student_of(name, layout), find_topology(compiled_for(chip, layout.chips))
    mesh = make_mesh(MeshSettings(trial=-1, fsdp=layout.chips), place.devices)
    decoder = student.kind == "decoder"
    parts = (RECORD,) if decoder else (LABELS, RECORD - LABELS)
    rows = -(-layout.records // (2 * layout.chips)) * layout.chips
    shape = BatchShape(rows, 2 * parts[0], layout.records * LABELS, layout.records, 0 if decoder else 2 * parts[1])
    slots = mesh.shape["trial"] * layout.slots
    executor: Any = layout.executor
    setup = Setup(student, mesh, slots, executor, Hyper.of(TrainSettings(), 1000), shape)
    peak = peak_flops([place.devices[0]], "bfloat16")
    assert peak is not None
    axes = {axis: int(size) for axis, size in mesh.shape.items()}
    found = figures_of("train step", setup.step(), axes, place.chip, peak)
    row = as_json(found) | dataclasses.asdict(layout)
    row |= {"student": name, "chip": chip, "compiled_for": place.name}
    if found.roofline is not None and found.program is not None:
        model = StepFlops.of(student.shapes_by_path, jax.eval_shape(student.head, student.shapes).shape)
        lengths = np.tile(np.array(parts), (layout.records, 1))
        needed = layout.slots * model.total(lengths, np.full(layout.records, LABELS))
        at = found.roofline.seconds
        row |= {
            "needed_flops": needed,  # of the chips that share a trial
            "limit": found.roofline.limit,
            "mfu_at_most": needed / (at * peak * layout.chips),
            "examples_per_second_a_chip": layout.slots * layout.records / layout.chips / at,
            "bytes_by_purpose": bytes_by_purpose(found.program, setup),
        }
    import libtpu

    return row | {"date": datetime.date.today().isoformat(), "jax": jax.__version__, "libtpu": libtpu.__version__}


def write_page(rows: list[Row]) -> None:
    """Puts the tables into the page, each between its two comments."""
    students = list(STUDENTS)
    page = PAGE.read_text()
    for name, table in (("best", best_table), ("all", all_table), ("bytes", bytes_table)):
        start, end = f"<!-- pod_table {name}: begin -->\n", "<!-- end -->"
        new = f"{start}{table(rows, students)}\n{end}"
        page = re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: new, page, flags=re.S)  # noqa: B023
    PAGE.write_text(page)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("students", nargs="*", default=list(STUDENTS))
    arguments.add_argument("--chip", action="append", choices=sorted({pod.partition(":")[0] for pod in PODS}))
    arguments.add_argument("--most", type=int, default=3, help="layouts compiled for each student and chip")
    for field in dataclasses.fields(Layout):
        if field.name != "dropout":
            arguments.add_argument(f"--{field.name}", type=type(field.default), help="compile this layout, no search")
    given = arguments.parse_args()
    named = {field.name: getattr(given, field.name, None) for field in dataclasses.fields(Layout)}
    changes = {name: value for name, value in named.items() if value is not None}
    rows: list[Row] = json.loads(STORE.read_text()) if STORE.exists() else []
    write_page(rows)
    for name in given.students:
        weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(student_of(name, Layout()).shapes))
        for chip in given.chip or ["v5e", "v6e"]:
            room = CHIPS[chip].memory - RESERVED
            layouts: Iterator[Layout] = to_compile(rows, name, chip, weights, room, given.most)
            for layout in [Layout(**changes)] if changes else layouts:
                row = compiled_row(name, chip, layout)
                same = (name, chip, layout)
                rows[:] = [old for old in rows if (old["student"], old["chip"], Layout.of(old)) != same] + [row]
                STORE.write_text(json.dumps(rows, indent=1) + "\n")
                write_page(rows)
                print(all_table([row], list(STUDENTS)).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
