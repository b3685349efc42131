"""The scaling benchmark: its fits, tables, pictures and places; and, slowly, that what should be linear is."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from benchmarks.page import write_place
from benchmarks.scaling import parts, stages
from benchmarks.scaling.finished_trials import write_finished
from benchmarks.scaling.fit import each, exponent
from benchmarks.scaling.made_data import RECIPE, TEST, write_study
from benchmarks.scaling.pictures import draw
from benchmarks.scaling.tables import table, write_tables
from ftcot_jax.records import manifest, tokenize
from ftcot_jax.teacher.completion import read_completions

SIZES = (1000, 10_000, 100_000)


def points() -> list[parts.Point]:
    """Figures of a run whose costs are 2 µs and a KiB a record, after 300 MiB."""
    figures = [
        {f"{name}_cpu": 2e-6 * size for name in ("import", "curate", "tokenize", "select", "plan", "first", "feed")}
        | {"base_bytes": 300 * 2**20, "peak_bytes": 300 * 2**20 + 1024 * size}
        for size in SIZES
    ]
    return [{"records": size} | dict.fromkeys(parts.OF_RUN, found) for size, found in zip(SIZES, figures, strict=True)]


def step_points(part: str) -> list[parts.Point]:
    kinds = {"slots": ("executor", ("vmap", "map")), "devices": ("axis", ("trial", "data"))}.get(part, ("of", ("one",)))
    return [
        {part: size, kinds[0]: kind, "seconds": 0.01 * size, "least": 0.009 * size, "most": 0.02 * size}
        | {"compile_seconds": 3.0, "flops": 1e9 * size}
        for size in parts.SIZES[part]
        for kind in kinds[1]
    ]


def test_an_exponent_is_that_of_the_largest_sizes() -> None:
    sizes = [10, 100, 1000, 10_000]
    assert exponent(sizes, [0.5 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes[::-1], [7 * size for size in sizes[::-1]]) == pytest.approx(1)
    assert exponent(sizes, [1e9, *sizes[1:]]) == pytest.approx(1)  # the smallest of four does not count
    assert each([1000, 10, 100], [4000, 1, 400]) == pytest.approx(4)
    with pytest.raises(ValueError, match="two points"):
        exponent([1], [1])


def test_the_table_of_stages() -> None:
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table("records", points()).splitlines()}
    assert rows["records"] == "| records | 1,000 | 10,000 | 100,000 | grows as | one more rationale |"
    assert rows["feed an epoch, CPU s"] == "| feed an epoch, CPU s | 0.00 | 0.02 | 0.20 | n^1.00 | 2.0 µs |"
    assert rows["curate, peak MiB"] == "| curate, peak MiB | 301 | 310 | 398 |  | 1.0 KiB |"
    shared = [
        point | {"degree": size, "pairs": point["records"], "share": {"spared_8": 0.015}}
        for size, point in zip((1, 2, 4), points(), strict=True)
    ]
    text = table("degree", shared)
    assert "| D | 1 | 2 | 4 | grows as | one more rationale |" in text
    assert "| import, CPU s | 0.00 | 0.02 | 0.20 | n^1.00 | 2.0 µs |" in text
    assert "| tokens spared by share_questions, batches of 8, % | 1.5 | 1.5 | 1.5 |" in text


def test_the_table_of_steps() -> None:
    lines = table("slots", step_points("slots")).splitlines()
    assert lines[0] == "| slots | executor | ms a step | least to most | times the first's | GFLOP/s | compiled in |"
    assert lines[5] == "| 2 | map | 20.0 | 18.0 to 40.0 | 2.00 | 100.0 | 3.0 s |"


def test_pictures_and_places(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- scaling records: begin -->\nold\n<!-- scaling records: end -->\nafter\n")
    stored = {"records": {"machine": "2 cores, X", "jax": "0.10.2", "date": "2026-11-21", "points": points()}}
    for _ in range(2):  # a second time changes nothing
        write_tables(stored, page)
    text = page.read_text()
    assert text.startswith("before\n<!-- scaling records: begin -->\n8 rationales a question")
    assert text.endswith("![records](scaling_records.png)\n<!-- scaling records: end -->\nafter\n")
    assert table("records", points()) in text
    assert "old" not in text
    with pytest.raises(ValueError, match="no place for peers"):
        write_place("peers", "x", page)
    for part, found in (("records", points()), ("devices", step_points("devices"))):
        assert draw(part, found, tmp_path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_made_study_goes_the_whole_road(tmp_path: Path) -> None:
    write_study(tmp_path / "study", 16, 4)
    file = read_completions(tmp_path / "study" / "completions.json")
    assert [(row.sample_index, row.completion_index) for row in file.completions] == [
        (question, choice) for question in range(16) for choice in range(4)
    ]
    questions = [json.loads(line) for line in (tmp_path / "study" / "questions.jsonl").read_text().splitlines()]
    assert [row["split"] for row in questions] == ["train"] * 16 + ["test"] * TEST
    right = [row.completion.strip() == row.answer for row in file.completions]
    assert 48 < sum(right) < 64
    for stage in ("import", "curate", "tokenize", "feed"):
        found = stages.perform(stage, str(tmp_path / "study" / RECIPE))
        assert found["peak_bytes"] >= found["base_bytes"] > 0
    lengths = np.load(next((tmp_path / "study/out").rglob("lengths.npy")))
    assert (found["steps"], found["tokens"]) == (2, lengths[right].sum())  # 32 a step


@pytest.mark.slow
def test_cost_is_linear_in_records(tmp_path: Path) -> None:
    """CPU time, of which other programs take none, from warm code; three sizes, each twice the one before."""
    sizes, spent = (400, 3000, 6000, 12_000), dict.fromkeys(parts.costs("records"), ())
    for size in sizes:
        recipe = tmp_path / str(size) / RECIPE
        write_study(recipe.parent, size // 8, 8)
        found = {stage: stages.perform(stage, str(recipe)) for stage in parts.OF_RUN}
        for title, (stage, name) in parts.costs("records").items():
            spent[title] += (found[stage][f"{name}_cpu"],)
    assert max(spent.pop("resume: first batch")[1:]) < 0.5  # of whatever size, once all is imported
    grows = {title: exponent(sizes, costs) for title, costs in spent.items()}
    assert max(grows.values()) < 1.3, (grows, spent)


@pytest.mark.slow
def test_plan_and_report_are_linear_in_trials(tmp_path: Path) -> None:
    counts = (8, 16, 32, 64)
    recipes = write_finished(tmp_path / "trials", counts)
    for stage in parts.OF_SWEEP:
        spent = [stages.perform(stage, str(recipe))[f"{stage}_cpu"] for recipe in recipes]
        assert exponent(counts, spent) < 1.3, (stage, spent)


@pytest.mark.slow
def test_memory_grows_by_columns_and_not_by_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that Python allocates at most, which depend on no other program; a rationale's texts are 1.1 KB."""
    monkeypatch.setattr(manifest, "_BYTES", 1 << 16)  # so that buffers of a fixed size are full
    monkeypatch.setattr(tokenize, "PAIRS", 512)
    monkeypatch.setattr(tokenize, "TEXTS", 128)
    sizes, most = (400, 1200, 3600), dict[str, list[int]]()  # the first only warms up
    for size in sizes:
        write_study(tmp_path / str(size), size // 8, 8)
        for stage in parts.OF_RUN:
            tracemalloc.start()
            stages.perform(stage, str(tmp_path / str(size) / RECIPE))
            most.setdefault(stage, []).append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    grows = {stage: (peaks[2] - peaks[1]) / (sizes[2] - sizes[1]) for stage, peaks in most.items()}
    bounds = {"import": 120, "curate": 120, "tokenize": 400, "feed": 250}
    assert all(grows[stage] < bound for stage, bound in bounds.items()), grows
