"""A recipe's whole grid, ready to run: students of ours and students at APIs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ftcot_jax.artifacts import Artifact
from ftcot_jax.config import TrialRecipe
from ftcot_jax.stages.api_student import ApiJob, find_api_scores, prepare_api
from ftcot_jax.stages.evaluate import find_scores, selected_step
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, prepare


@dataclasses.dataclass(frozen=True)
class Grid:
    """A recipe's trials: those whose student runs here, and those whose student lives at an API."""

    jobs: list[Job]
    api_jobs: list[ApiJob]

    def __len__(self) -> int:
        return len(self.jobs) + len(self.api_jobs)

    @property
    def specs(self) -> list[TrialRecipe]:
        return [job.spec for job in self.jobs] + [job.spec for job in self.api_jobs]

    def scores(self, place: Place) -> list[tuple[TrialRecipe, Artifact]]:
        """The reported scores of each trial that has them."""
        found = [(job.spec, find_api_scores(place, job)) for job in self.api_jobs]
        for job in self.jobs:
            step = selected_step(place, job)
            found.append((job.spec, None if step is None else find_scores(place, job, step)))
        return [(spec, scores) for spec, scores in found if scores is not None]


def prepare_grid(place: Place, specs: Sequence[TrialRecipe]) -> Grid:
    """Brings every trial's records and pairs about, making what is missing.

    Raises:
      FtcotError: as `prepare` and `prepare_api`.
    """
    here, at_apis = here_and_at_apis(specs)
    return Grid(prepare(place, here), prepare_api(place, at_apis))


def here_and_at_apis(specs: Sequence[TrialRecipe]) -> tuple[list[TrialRecipe], list[TrialRecipe]]:
    """The trials whose student runs here, and those whose student lives at an API."""
    here = [spec for spec in specs if spec.recipe.api_student is None]
    return here, [spec for spec in specs if spec.recipe.api_student is not None]
