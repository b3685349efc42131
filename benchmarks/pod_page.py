"""Tables of compiled layouts: the best of each student and pod, all of them, and what their bytes are for."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.pod_layouts import PODS, Row, devices_of
from ftcot_jax.bench.compile_bytes import PURPOSES
from ftcot_jax.bench.compile_chips import GIB

PAPER_RECORDS = 8


def possible(row: Row, pod: str) -> bool:
    """Whether a row's layout can be laid over a pod."""
    return row["chip"] == pod.partition(":")[0] and devices_of(pod) % row["chips"] == 0


def rate(row: Row, pod: str) -> float:
    """Examples a second at most, of a whole pod."""
    return float(row["examples_per_second_a_chip"] * devices_of(pod))


def best(rows: Sequence[Row], student: str, pod: str, records: int | None = None) -> Row | None:
    """The row with the most examples a second at most, of those that fit; None where none does.

    Args:
      rows: all that were compiled.
      student: whose.
      pod: where.
      records: a slot and step; None for any number.
    """
    fitting = [
        row
        for row in rows
        if row["student"] == student
        and possible(row, pod)
        and row["fits"]
        and (records is None or row["records"] == records)
    ]
    return max(fitting, key=lambda row: float(row["examples_per_second_a_chip"]), default=None)


def best_table(rows: Sequence[Row], students: Sequence[str]) -> str:
    """For each student and pod the best at the paper's batch and the best of all, as markdown."""
    lines = [
        "| student | pod | mesh | slots | records a slot | remat | GiB a chip | limit | MFU at most "
        "| examples/s at most | MB received a step and chip | compiled for |",
        "|" + "---|" * 12,
    ]
    for student in students:
        for pod in PODS:
            found = [best(rows, student, pod, PAPER_RECORDS), best(rows, student, pod)]
            shown = [row for number, row in enumerate(found) if row is not None and row not in found[:number]]
            for row in shown:
                mark = "**" if row is found[1] else ""
                trials = devices_of(pod) // row["chips"]
                mesh = f"trial {trials}" if row["chips"] == 1 else f"trial {trials} x fsdp {row['chips']}"
                values = [
                    student, pod, mesh, trials * row["slots"], row["records"], row["remat"],
                    f"{row['needed_bytes'] / GIB:.2f}", row["limit"], f"{100 * row['mfu_at_most']:.0f}%",
                    f"{mark}{rate(row, pod):.0f}{mark}", _received(row), row["compiled_for"],
                ]  # fmt: skip
                lines.append("| " + " | ".join(map(str, values)) + " |")
            if not shown:
                lines.append(f"| {student} | {pod} | " + " | ".join([_why_not(rows, student, pod), *["-"] * 9]) + " |")
    return "\n".join(lines)


def _why_not(rows: Sequence[Row], student: str, pod: str) -> str:
    """Why a student has no best row on a pod."""
    tried = [row for row in rows if row["student"] == student and possible(row, pod)]
    if not tried:
        return "not compiled yet"
    least = min(tried, key=lambda row: float(row["needed_bytes"]))
    return f"does not fit: {least['needed_bytes'] / GIB:.1f} GiB at the least"


def all_table(rows: Sequence[Row], students: Sequence[str]) -> str:
    """Every layout that was compiled, with a chip's figures, as markdown."""
    lines = [
        "| student | chip | chips a trial | slots | records a slot | remat | GiB | fits | TFLOP | GB moved "
        "| ms at least | examples/s and chip | MB received | while computing | compiled |",
        "|" + "---|" * 15,
    ]
    for row in _sorted(rows, students):
        start = [row["student"], row["chip"], row["chips"], row["slots"], row["records"], _recomputed(row)]
        if row["memory_bytes"] is None:
            rest = [f"> {row['needed_bytes'] / GIB:.1f}", "no", *["-"] * 6]
        else:
            wire = sum(part["bytes"] for part in row["collectives"])
            hidden = sum(part["overlapped_bytes"] for part in row["collectives"])
            rest = [
                f"{row['needed_bytes'] / GIB:.2f}",
                "yes" if row["fits"] else "no",
                f"{row['flops'] / 1e12:.3f}",
                f"{row['bytes'] / 1e9:.2f}",
                f"{1e3 * max(row['roofline_seconds'].values()):.2f} ({row['limit']})",
                f"{row['examples_per_second_a_chip']:.0f}",
                _received(row),
                f"{100 * hidden / wire:.0f}%" if wire else "-",
            ]
        told = f"{row['compiled_for']}, {row['date']}, libtpu {row['libtpu']}"
        lines.append("| " + " | ".join(map(str, [*start, *rest, told])) + " |")
    return "\n".join(lines)


def bytes_table(rows: Sequence[Row], students: Sequence[str]) -> str:
    """What the bytes of a chip's step are for, in GB, as markdown."""
    lines = [
        "| student | chip | chips a trial | slots | records a slot | remat | " + " | ".join(PURPOSES) + " | all |",
        "|" + "---|" * (7 + len(PURPOSES)),
    ]
    for row in _sorted(rows, students):
        parts = row.get("bytes_by_purpose")
        if parts:
            start = [row["student"], row["chip"], row["chips"], row["slots"], row["records"], _recomputed(row)]
            own = [f"{parts[name] / 1e9:.2f} ({100 * parts[name] / row['bytes']:.0f}%)" for name in PURPOSES]
            lines.append("| " + " | ".join(map(str, [*start, *own, f"{row['bytes'] / 1e9:.2f}"])) + " |")
    return "\n".join(lines)


def _recomputed(row: Row) -> str:
    return str(row["remat"]) + (", slots in turn" if row["executor"] == "map" else "")


def _received(row: Row) -> str:
    wire = sum(part["bytes"] for part in row["collectives"])
    return f"{wire / 1e6:.1f}" if wire else "none"


def _sorted(rows: Sequence[Row], students: Sequence[str]) -> list[Row]:
    keys = ("chip", "chips", "records", "slots", "remat", "executor")
    return sorted(rows, key=lambda row: (students.index(row["student"]), *(row[key] for key in keys)))
