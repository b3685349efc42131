"""How many completions a second the scorers read on one core.

    python benchmarks/scoring.py FILE... [--mirror DIR]

FILEs are completion files in the authors' JSON. Whole rationales are scored, as a student's text would be, with
the prefix of ft_cot_token; the time is the process's own, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.scoring import Scoring, score
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.teacher.completion import read_completions

MILLION = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--mirror")
    arguments = parser.parse_args()
    print("| file | texts | characters, mean | paper, s a million | robust, s a million |\n|---|---|---|---|---|")
    total = dict.fromkeys(get_args(Scoring), 0.0)
    count = 0
    for file in arguments.files:
        content = read_completions(file)
        task = load_task(TaskSettings(key=content.metadata["dataset_key"], mirror=arguments.mirror)).task
        rows = [(f"{row.reasoning_completion} --> {row.answer}", row.answer) for row in content.completions]
        seconds = {}
        for scoring in total:
            began = time.process_time()
            for text, gold in rows:
                score(task, text, gold, "-->", scoring)
            seconds[scoring] = time.process_time() - began
            total[scoring] += seconds[scoring]
        count += len(rows)
        length = sum(len(text) for text, _ in rows) / len(rows)
        cells = " | ".join(f"{MILLION * seconds[scoring] / len(rows):.1f}" for scoring in total)
        print(f"| {file.name} | {len(rows)} | {length:.0f} | {cells} |")
    print(f"| all | {count} | | " + " | ".join(f"{MILLION * spent / count:.1f}" for spent in total.values()) + " |")


if __name__ == "__main__":
    main()
