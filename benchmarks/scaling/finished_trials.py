"""A folder of many finished trials: one is trained and scored, the others' artefacts are copies of its."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from etils import epath

from benchmarks.scaling.made_data import RECIPE, write_study
from ftcot_jax.artifacts import MANIFEST, Artifact
from ftcot_jax.config import load_recipe
from ftcot_jax.stages.evaluate import find_scores
from ftcot_jax.stages.place import Place, run_folder
from ftcot_jax.stages.trials import find_student, prepare, score_inputs

SEEDS = 4  # of each arm
_QUESTIONS, _DEGREE = 40, 2


def write_finished(folder: Path, counts: tuple[int, ...]) -> list[Path]:
    """Writes a recipe for each count of trials, all of them finished in one folder; returns the recipes."""
    write_study(folder, _QUESTIONS, _DEGREE)
    study = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    study["train"] = {"steps": 2, "batch": {"examples": 4}}
    recipes = []
    for count in counts:
        rates = [1e-4 * (1 + arm) for arm in range(max(1, count // SEEDS))]
        study["sweep"] = {"axes": [{"train.learning_rate": rates}, {"seed": list(range(min(SEEDS, count)))}]}
        recipes.append(folder / f"trials-{count}.yaml")
        recipes[-1].write_text(json.dumps(study), encoding="utf-8")
    run = [sys.executable, "-c", "from ftcot_jax.cli import main; main()", "run", str(recipes[0]), "train.slots=1"]
    only = json.dumps({"train.learning_rate": 1e-4, "seed": 0})
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([*run, f"sweep.only={only}"], check=True, env=environment, stdout=subprocess.DEVNULL)
    recipe, specs = load_recipe(str(recipes[-1]), [])
    place = Place(run_folder(recipe), lambda line: None)
    jobs = prepare(place, specs)
    student, scores = find_student(place, jobs[0]), find_scores(place, jobs[0], jobs[0].steps)
    assert student is not None and scores is not None  # noqa: PT018 (one fact: the first trial was run)
    for job in jobs:
        place.store.make("student", job.inputs, lambda folder: _copied(student, folder))
        place.store.make("scores", score_inputs(place, job, job.steps, "test"), lambda folder: _copied(scores, folder))
    return recipes


def _copied(made: Artifact, folder: epath.Path) -> dict[str, object]:
    shutil.copytree(made.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    summary: dict[str, object] = made.manifest["summary"]
    return summary
