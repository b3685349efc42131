"""Job files that start a sweep's workers on engines that know how to: Slurm, Kubernetes, SkyPilot."""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jinja2

from ftcot_jax.errors import UsageError

Engine = Literal["slurm", "k8s", "skypilot"]
_TEMPLATES: dict[Engine, str] = {"slurm": "slurm.sbatch", "k8s": "k8s.yaml", "skypilot": "skypilot.yaml"}


@dataclasses.dataclass(frozen=True)
class Submission:
    """What is to be started.

    Attributes:
      recipe: the recipe's file, as the command names it.
      overrides: section.key=value texts.
      out: the output folder, which all workers must see.
      name: the recipe's.
      resolved: the recipe's whole YAML, overrides and base included.
      workers: how many.
      gpus: of each worker, on Slurm and Kubernetes; 0 for none.
      time: Slurm's limit of a task, after which it goes back into the queue.
      image: Kubernetes' container image with ftcot.
      accelerators: SkyPilot's name and number of them for each worker, such as ``H100:1``.
    """

    recipe: str
    overrides: Sequence[str]
    out: str
    name: str
    resolved: str
    workers: int
    gpus: int
    time: str
    image: str | None
    accelerators: str | None

    @property
    def slug(self) -> str:
        """The name as all engines allow it."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:50].strip("-")


def write_job(engine: Engine, job: Submission, file: Path | None = None) -> tuple[Path, str, str]:
    """Writes a job file.

    Args:
      engine: who runs it.
      job: what it starts.
      file: where to; default: the recipe's name with the engine's ending, here.

    Returns:
      The file, its text, and the command that submits it.

    Raises:
      UsageError: the engine needs something that was not given.
    """
    if engine == "k8s" and not job.image:
        raise UsageError("--to k8s needs --image: a container image with ftcot; tpu_scripts/Dockerfile makes one")
    if engine == "k8s" and "://" not in job.out and not job.out.startswith("/"):
        raise UsageError(f"--out {job.out}: pods share a bucket or a mounted folder; give gs://... or an absolute path")
    if engine == "skypilot" and "://" not in job.out:
        raise UsageError(f"--out {job.out}: SkyPilot's machines share no disk; give gs://BUCKET/FOLDER")
    path = file or Path(f"{job.slug}.{_TEMPLATES[engine]}")
    inside = engine == "k8s"
    recipe = f"/recipe/{job.name}.yaml" if inside else job.recipe
    words = ["ftcot", "sweep", "run", recipe, *(() if inside else job.overrides), "--out", job.out]
    text = _render(engine, job, words)
    path.write_text(text, encoding="utf-8")
    return path, text, _command(engine, job, path)


def _render(engine: Engine, job: Submission, words: Sequence[str]) -> str:
    source = importlib.resources.files("ftcot_jax.sweeps") / "jobs" / _TEMPLATES[engine]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        written=f"Written by `ftcot sweep submit --to {engine}`",
        name=job.name,
        slug=job.slug,
        workers=job.workers,
        gpus=job.gpus,
        time=job.time,
        image=job.image,
        accelerators=job.accelerators,
        extra=_extra(job.accelerators),
        recipe=job.resolved,
        words=list(words),
        command=shlex.join(words),
    )


def _extra(accelerators: str | None) -> str:
    """The package's extra for a machine with these."""
    if accelerators is None:
        return "gcs"
    return "gcs,tpu" if accelerators.startswith("tpu") else "gcs,cuda"


def _command(engine: Engine, job: Submission, path: Path) -> str:
    quoted = shlex.quote(str(path))
    if engine == "slurm":
        return f"sbatch {quoted}"
    if engine == "k8s":
        return f"kubectl apply -f {quoted}"
    each = f'sky jobs launch --detach-run --yes --name "ftcot-{job.slug}-$i" --env FTCOT_WORKER="$i" {quoted}'
    return f"for i in $(seq {job.workers}); do {each}; done"
