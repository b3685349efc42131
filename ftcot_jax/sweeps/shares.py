"""Which part of a grid is a worker's own: known from its number alone, the same on every machine."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from ftcot_jax.errors import UsageError
from ftcot_jax.training.cluster import find_slice

WORKERS = "FTCOT_WORKERS"


@dataclasses.dataclass(frozen=True)
class Share:
    """Worker `number` of `count`, counted from 1."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        return f"w{self.number}of{self.count}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """Reads ``i/n``.

        Raises:
          UsageError: it is no such text.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--worker {text}: give i/n, such as 1/4 for the first of four")
        return cls(int(match[1]), int(match[2]))

    def of(self, costs: Sequence[float]) -> range:
        """The trials that are this worker's, given what each costs: neighbours, and about as much as anybody's.

        The shares of all workers cover every trial once. Trials that share a compiled program stand together, so a
        worker meets few programs.
        """
        total, before, mine = sum(costs), 0.0, []
        for place, cost in enumerate(costs):
            middle = (before + cost / 2) / total if total else (place + 0.5) / len(costs)
            if min(int(middle * self.count), self.count - 1) == self.number - 1:
                mine.append(place)
            before += cost
        return range(mine[0], mine[-1] + 1) if mine else range(0)


ALL = Share()


def find_share(environment: Mapping[str, str]) -> Share:
    """This worker's number and how many there are, from what starts it; 1 of 1 where nothing tells.

    A Slurm array counts its own tasks. A Kubernetes indexed job tells the index alone, so its manifest adds the count
    as FTCOT_WORKERS, as a SkyPilot task and any script may do with FTCOT_WORKER (from 1). TPU slices have both in
    their metadata.

    Raises:
      UsageError: the environment contradicts itself.
    """
    if environment.get("SLURM_ARRAY_TASK_ID") and environment.get("SLURM_ARRAY_TASK_COUNT"):
        return _slurm(environment)
    for name, first in (("FTCOT_WORKER", 1), ("JOB_COMPLETION_INDEX", 0)):
        if name in environment and WORKERS in environment:
            return _numbered(environment, name, WORKERS, first)
    if "FTCOT_WORKER" in environment or WORKERS in environment:
        there, missing = (WORKERS, "FTCOT_WORKER") if WORKERS in environment else ("FTCOT_WORKER", WORKERS)
        raise UsageError(f"{there} is set and {missing} is not; set both, or say --worker i/n")
    number, count = find_slice(environment)
    return Share(number + 1, count)


def _slurm(environment: Mapping[str, str]) -> Share:
    names = [f"SLURM_ARRAY_TASK_{part}" for part in ("ID", "MIN", "STEP", "COUNT")]
    texts = [environment.get(name, "1" if name.endswith("STEP") else "") for name in names]
    if not all(text.isdecimal() for text in texts):
        raise UsageError(f"{', '.join(names)} are {', '.join(map(repr, texts))}; say --worker i/n")
    task, least, step, count = map(int, texts)
    number, rest = divmod(task - least, max(step, 1))
    if rest or not 0 <= number < count:
        raise UsageError(f"the Slurm array has gaps (task {task} of {count} from {least}); make it --array=1-N")
    return Share(number + 1, count)


def _numbered(environment: Mapping[str, str], number: str, count: str, first: int) -> Share:
    texts = (environment.get(number, ""), environment[count])
    if not all(text.isdecimal() for text in texts) or not 0 <= int(texts[0]) - first < int(texts[1]):
        raise UsageError(
            f"{number} is {texts[0]!r} and {count} {texts[1]!r}; they must be a number from {first} and a count"
        )
    return Share(int(texts[0]) - first + 1, int(texts[1]))
