"""The few-shot exemplars of the reference, fetched as data."""

from __future__ import annotations

import dataclasses

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.fetch import fetch
from ftcot_jax.tasks.task import Source
from ftcot_jax.text_files import read_json

SOURCE = Source(
    "itsnamgyu/reasoning-teacher",
    "a2ca4d28d3bbabbd77106b76d06885d1a5eac0d9",
    "data/few_shot_cot_prompts.json",
    "72bb973daf1ab1217ec5bc1cc95a8be8ab78d05ff42356a3176341d848956d19",
)


@dataclasses.dataclass(frozen=True)
class Exemplars:
    """Solved questions shown before the one that is asked.

    Attributes:
      text: all of them, as ``Q: ... A: ...``.
      sample_indices: those that are questions of the task itself; scoring them on the test set would be cheating.
    """

    text: str
    sample_indices: tuple[int, ...]


def load_exemplars(key: str, mirror: str | None = None) -> Exemplars:
    """Returns a task's exemplars.

    Raises:
      UsageError: the reference has none for this task.
      FtcotError: the file cannot be had, or is not of the expected form.
    """
    file = fetch(SOURCE, mirror)
    prompts = read_json(file)
    if key not in prompts:
        raise UsageError(f"template: fs_cot: the reference has no exemplars for {key}; {', '.join(prompts)} have some")
    try:
        return Exemplars(prompts[key]["prompt"], tuple(prompts[key]["sample_indices"]))
    except (KeyError, TypeError) as error:
        raise FtcotError(f"{file}: {key}: no 'prompt' and 'sample_indices' in it") from error
