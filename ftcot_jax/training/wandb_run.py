"""A trial's metrics as a run of Weights & Biases, where it is asked for; its troubles never touch the training."""

from __future__ import annotations

import importlib.util
import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ftcot_jax.errors import UsageError
from ftcot_jax.training.settings import WandbSettings

_WITHOUT_KEY = ("offline", "dryrun", "disabled")
_SECONDS_TO_START, _SECONDS_TO_FINISH = 60, 60


def require_wandb() -> None:
    """Checks that runs can be logged, before anything is trained.

    Raises:
      UsageError: the package is missing, or there is no key and WANDB_MODE is not offline.
    """
    if importlib.util.find_spec("wandb") is None:
        raise UsageError("train.wandb: the wandb package is missing; pip install wandb, or leave train.wandb out")
    if os.environ.get("WANDB_MODE") not in _WITHOUT_KEY and not (os.environ.get("WANDB_API_KEY") or _stored_key()):
        raise UsageError(
            "train.wandb: there is no key; set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE=offline to log here"
        )


def _stored_key() -> bool:
    """Whether `wandb login` left a key in the user's netrc file."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbRun:
    """One trial's run; a resumed trial goes on in the same one.

    Args:
      settings: project and entity.
      key: of the trial, the run's id.
      name: of the trial.
      folder: where the package keeps its files.
      say: receives a line if logging fails; the trial is then trained without it.
    """

    def __init__(self, settings: WandbSettings, key: str, name: str, folder: Path, say: Callable[[str], None]) -> None:
        self._name, self._say = name, say
        self._run: Any = None
        try:
            import wandb  # only where asked for: it is slow to import and not everybody has it

            folder.mkdir(parents=True, exist_ok=True)
            self._run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                id=key,
                name=name,
                dir=str(folder),
                resume="allow",
                reinit="create_new",  # several trials at once
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    init_timeout=_SECONDS_TO_START,
                    finish_timeout=_SECONDS_TO_FINISH,
                ),
            )
        except Exception as error:  # whatever happens there is no reason to stop training
            self._give_up(error)

    def write(self, row: dict[str, Any]) -> None:
        """Logs a row; those of steps that the run has already, made again after a kill, are dropped by it."""
        if self._run is not None:
            try:
                self._run.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])
            except Exception as error:  # as above
                self._give_up(error)

    def close(self) -> None:
        if self._run is not None:
            try:
                self._run.finish()
            except Exception as error:  # as above
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        self._run = None
        self._say(f"train.wandb: {self._name} is not logged any further ({first}); training goes on")
