"""The pod table: which layouts are compiled next and for what, what the page calls best, and what does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from benchmarks import pod_table
from benchmarks.pod_layouts import Layout, Row, candidates, compiled_for, devices_of, predicted_bytes, to_compile
from benchmarks.pod_page import all_table, best, best_table, bytes_table
from ftcot_jax.bench.compile_bytes import PURPOSES
from ftcot_jax.bench.compile_chips import GIB
from ftcot_jax.students import known

ROOM = 15.75 * GIB


def row(gib: float, rate: float, chip: str = "v5e", student: str = "gpt2", **layout: Any) -> Row:
    """A compiled row; a rate of 0 for a program that the compiler found no room for."""
    laid = Layout(**layout)
    ran = rate > 0
    return dataclasses.asdict(laid) | {
        "student": student,
        "chip": chip,
        "compiled_for": compiled_for(chip, laid.chips),
        "fits": ran and gib * GIB <= ROOM,
        "needed_bytes": gib * GIB,
        "memory_bytes": {} if ran else None,
        "flops": 1e12,
        "bytes": 4e9,
        "bytes_by_purpose": dict(zip(PURPOSES, (2e9, 1e9, 1e9, 0.0, 0.0), strict=True)) if ran else None,
        "collectives": [{"bytes": 2e6, "overlapped_bytes": 1e6}] if laid.chips > 1 else [],
        "roofline_seconds": {"compute": 0.001, "memory": 0.002, "interconnect": 0.0},
        "limit": "memory",
        "mfu_at_most": 0.25,
        "examples_per_second_a_chip": rate,
        "date": "2026-11-21",
        "libtpu": "1",
    }


def test_a_trial_on_one_chip_is_compiled_for_four() -> None:
    assert [compiled_for("v6e", chips) for chips in (1, 4, 16, 256)] == [
        "v6e:2x2", "v6e:4x4", "v6e:4x4", "v6e:16x16",
    ]  # fmt: skip
    assert devices_of("v5e:16x16") == 256


def test_the_best_fits_and_lies_on_the_pod() -> None:
    rows = [
        row(5, 100),
        row(9, 300, records=32),
        row(17, 900, records=64),  # compiled, too large
        row(30, 0, records=64, slots=2),
        row(2, 800, chips=256, records=512),  # not on sixteen chips
        row(5, 999, chip="v6e"),
    ]
    assert best(rows, "gpt2", "v5e:4x4") is rows[1]
    assert best(rows, "gpt2", "v5e:4x4", records=8) is rows[0]
    assert best(rows, "gpt2", "v5e:16x16") is rows[4]
    assert best(rows, "gpt2", "v6e:16x16") is rows[5]
    assert best(rows, "gpt2-large", "v5e:4x4") is None


def test_the_page_multiplies_a_chips_figures_and_says_why_a_row_is_missing() -> None:
    rows = [row(5, 100), row(9, 300, records=32), row(30, 0, student="llama", chips=16, records=32)]
    lines = best_table(rows, ["gpt2", "llama"]).splitlines()[2:]
    assert [[cell.strip() for cell in line.split("|")][1:6] for line in lines[:3]] == [
        ["gpt2", "v5e:4x4", "trial 16", "16", "8"],
        ["gpt2", "v5e:4x4", "trial 16", "16", "32"],
        ["gpt2", "v5e:16x16", "trial 256", "256", "8"],
    ]
    assert "| 1600 |" in lines[0]
    assert "| **4800** |" in lines[1]
    assert lines[1].endswith("| v5e:2x2 |")
    assert "| gpt2 | v6e:16x16 | not compiled yet |" in lines[4]
    assert "| llama | v5e:4x4 | does not fit: 30.0 GiB at the least |" in lines[5]
    assert {line.count("|") for line in best_table(rows, ["gpt2", "llama"]).splitlines()} == {13}


def test_every_compiled_layout_is_shown() -> None:
    rows = [row(30, 0, slots=4), row(5, 100), row(6, 90, executor="map", slots=2), row(3, 50, chips=4)]
    lines = all_table(rows, ["gpt2"]).splitlines()
    assert len(lines) == 2 + len(rows)
    assert {line.count("|") for line in lines} == {16}
    assert any("| > 30.0 | no |" in line for line in lines)
    assert any("| 2.0 | 50% |" in line for line in lines)
    assert any("slots in turn" in line for line in lines)
    shares = bytes_table(rows, ["gpt2"]).splitlines()
    assert len(shares) == 2 + 3  # of those that were compiled
    assert "| 2.00 (50%) | 1.00 (25%) | 1.00 (25%) | 0.00 (0%) | 0.00 (0%) | 4.00 |" in shares[2]


def test_needs_are_a_line_through_two_rows_that_differ_in_one_thing() -> None:
    rows = [row(4, 1, records=8), row(7, 1, records=32), row(9, 1, slots=2, records=8), row(1, 1, remat="full")]
    assert predicted_bytes(rows, Layout(records=64)) == pytest.approx(11 * GIB)
    assert predicted_bytes(rows, Layout(slots=4)) == pytest.approx(19 * GIB)
    assert predicted_bytes(rows, Layout(slots=2, records=64)) is None
    assert predicted_bytes(rows, Layout(remat="full", records=64)) is None


def test_a_student_takes_as_many_chips_as_its_state_needs() -> None:
    small, large = list(candidates(124_000_000, ROOM)), list(candidates(8_000_000_000, ROOM))
    assert small[0] == Layout(1, 1, 8, "dots")
    assert min(layout.chips for layout in large) == 16  # 134 GiB of state
    assert all(layout.records >= 2 * layout.chips for layout in large)  # a row of two records on every chip


def test_the_search_goes_on_from_the_rows_that_are_there() -> None:
    rows = [row(4, 1, records=8)]
    found = []
    for layout in to_compile(rows, "gpt2", "v5e", 124_000_000, ROOM, most=20):
        found.append(layout)
        rows.append(row(4 * layout.slots * layout.records / 8, 1, **dataclasses.asdict(layout)))
    assert found[0] == Layout(records=32)
    assert Layout(records=64) not in found, "4 and 16 GiB say that it needs 32"
    assert Layout() not in found
    assert len(set(found)) == len(found)
    assert {layout.chips for layout in found} == {1}


def test_nothing_larger_than_what_did_not_fit_is_compiled() -> None:
    rows = [row(20, 0)]
    (second,) = to_compile(rows, "gpt2", "v5e", 900_000_000, ROOM, most=1)
    assert second == Layout(remat="full"), "all others need as much or more"
    rows += [row(19, 0, remat="full")]
    assert next(to_compile(rows, "gpt2", "v5e", 900_000_000, ROOM, most=1)) == Layout(chips=4), "nothing fits on one"


def test_rows_and_page_agree() -> None:
    """The tables in the page are those of the stored rows."""
    rows = json.loads(pod_table.STORE.read_text())
    page = pod_table.PAGE.read_text()
    students = list(pod_table.STUDENTS)
    for table in (best_table, all_table, bytes_table):
        assert table(rows, students) in page, "run python -m benchmarks.pod_table --most 0"


def test_writing_the_page_changes_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    between = [f"<!-- pod_table {name}: begin -->\nold\n<!-- end -->" for name in ("best", "all", "bytes")]
    page.write_text("a\n" + "\nb\n".join(between) + "\nc\n")
    monkeypatch.setattr(pod_table, "PAGE", page)
    pod_table.write_page([row(5, 100)])
    text = page.read_text()
    assert "old" not in text
    assert (text[:2], text[-3:], text.count("\nb\n"), text.count("| gpt2 |")) == ("a\n", "\nc\n", 2, 3 + 1 + 1)


def test_students_are_the_published_ones() -> None:
    published = {name.lower(): fields for name, fields in known.table().items()}
    names = [name for name in pod_table.STUDENTS if name in published]
    assert len(names) == 5
    for name in names:
        ours = pod_table.STUDENTS[name]
        whole = transformers.AutoConfig.for_model(**ours).to_dict() | ours
        sizes = {key: value for key, value in published[name].items() if key != "max_position_embeddings"}
        assert {key: whole[key] for key in sizes} == sizes, name
