"""Where a run works: its folder, its artefacts, and what it has already loaded."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from etils import epath

from ftcot_jax.artifacts import Store
from ftcot_jax.config import Recipe
from ftcot_jax.errors import UsageError
from ftcot_jax.evaluation.asking import Asking
from ftcot_jax.remote_folder import Mirror, filesystem, is_remote, sizes, upload
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.exemplars import Exemplars, load_exemplars
from ftcot_jax.tasks.fetch import cache_folder
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.tasks.templates import Kind, Message, Template, get_template, prompt_words
from ftcot_jax.teacher.plan import plan_of
from ftcot_jax.training.clock import Part
from ftcot_jax.training.processes import ALONE, Processes


@dataclasses.dataclass
class Place:
    """A run's folder. Recipes may share one; artefacts keep apart by address.

    Attributes:
      folder: the output folder.
      say: receives lines of progress.
      processes: those that do the same in this folder.
      seconds: wall seconds spent in each stage so far, in this process.
      training: those of training by what they went for.
    """

    folder: epath.Path
    say: Callable[[str], None]
    processes: Processes = ALONE
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    training: dict[str, float] = dataclasses.field(default_factory=dict)
    _inner: float = 0.0

    @functools.cached_property
    def local(self) -> Path:
        """This machine's folder for what is written bit by bit: the run's own, or one that stands in for a bucket."""
        if not is_remote(self.folder):
            return Path(self.folder)
        return cache_folder() / "buckets" / f"{self.folder.name}-{digest(os.fspath(self.folder))}"

    def mirror(self, name: str) -> Mirror:
        """The logs in the folder of that name below `local`, to be kept in the run's."""
        return Mirror(self.local / name, self.folder / name)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local folder whose files are in the run's folder `name` afterwards."""
        if not is_remote(self.folder):
            folder = Path(self.folder / name)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
            return
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
            upload(Path(temporary), self.folder / name, sizes(epath.Path(temporary)))

    def keep_at_home(self, what: str, instead: str) -> None:
        """Refuses what is paid for and known to one disk only, where the run's folder is a bucket.

        Raises:
          UsageError: it is.
        """
        if is_remote(self.folder):
            raise UsageError(f"out={self.folder}: {what} is kept in files that a bucket cannot hold safely; {instead}")

    @functools.cached_property
    def store(self) -> Store:
        return Store(self.folder / "artifacts", self.say, self.processes.number, self.copies)

    @property
    def copies(self) -> Path | None:
        """Where this machine keeps what it makes for a bucket and fetches from it; None for a run on a disk."""
        return self.local / "artifacts" if is_remote(self.folder) else None

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the time spent inside to the stage's."""
        began, inner = time.monotonic(), self._inner
        try:
            yield
        finally:
            elapsed = time.monotonic() - began
            own = elapsed - (self._inner - inner)  # scoring in the middle of training counts as scoring
            self.seconds[stage] = self.seconds.get(stage, 0.0) + own
            self._inner = inner + elapsed

    def add_training(self, spent: Mapping[Part, float]) -> None:
        """Adds a pool's wall seconds by what they went for."""
        for part, seconds in spent.items():
            self.training[part] = self.training.get(part, 0.0) + seconds

    def task(self, recipe: Recipe) -> TaskData:
        """The recipe's task, read once however many trials share it."""
        return read_task(recipe.task)

    def template(self, recipe: Recipe) -> Template:
        """The recipe's template in the student's form, its exemplars filled in."""
        template = get_template(recipe.template, self._kind(recipe))
        return template.with_exemplars(self.exemplars(recipe).text) if template.needs_exemplars else template

    def _kind(self, recipe: Recipe) -> Kind:
        if recipe.api_student is not None:
            return "chat" if recipe.api_student.form == "chat" else "api"
        return "chat" if recipe.chat else self.student(recipe).kind

    def exemplars(self, recipe: Recipe) -> Exemplars:
        """The few-shot exemplars of the recipe's task."""
        return load_exemplars(self.task(recipe).task.key, recipe.task.mirror)

    def asking(self, recipe: Recipe) -> Asking:
        """How the recipe's student is asked and read.

        Raises:
          UsageError: it is to be asked by chat and has no chat template.
        """
        template = self.template(recipe)
        shown = self.exemplars(recipe).sample_indices if recipe.template == "fs_cot" else ()
        if not template.chat or recipe.api_student is not None:
            second = plan_of(template).second
            after = None if second is None else lambda question, prompt, text: second(prompt, text)
            return Asking(template, template.prompt, recipe.scoring, shown, after)
        student = self.student(recipe)
        if not student.tokenizer.chat_template:
            raise UsageError(f"{recipe.name}: the student's tokenizer has no chat template; set chat=false")

        def render(messages: Sequence[Message]) -> str:
            text: str = student.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return text

        def second_of(question: str, prompt: str, text: str) -> str:
            asked = [*template.messages(question), {"role": "assistant", "content": text}]
            return render([*asked, {"role": "user", "content": template.answer_prompt(prompt, text)}])

        return Asking(
            template,
            lambda question: render(template.messages(question)),
            recipe.scoring,
            shown,
            None if template.answer_form is None else second_of,
        )

    def student(self, recipe: Recipe) -> Student:
        """The recipe's student without its weights, made once however many trials share it."""
        words = tuple(self.task(recipe).vocabulary) or None
        if words and isinstance(recipe.template, str) and not get_template(recipe.template).trains:
            words += tuple(word for word in prompt_words(recipe.template) if word not in words)
        return _load_student(recipe.own_student.model_dump_json(), words)


def run_folder(recipe: Recipe) -> epath.Path:
    """Where the recipe's run writes: a folder of this machine, or one in a bucket.

    Raises:
      UsageError: it is at an address of another kind.
      FtcotError: it is in a bucket and the package that reaches one is not installed.
    """
    if not is_remote(recipe.folder):
        return epath.Path(os.path.abspath(os.path.expanduser(recipe.folder)))  # checkpoints need absolute paths
    if not recipe.folder.startswith("gs://"):
        raise UsageError(f"out={recipe.folder}: neither a folder nor a bucket's address, gs://BUCKET/FOLDER")
    folder = epath.Path(recipe.folder)
    filesystem(folder)
    return folder


@functools.lru_cache(maxsize=64)
def read_task(settings: TaskSettings) -> TaskData:
    """The task of these settings, which this process holds once."""
    return load_task(settings)


@functools.lru_cache(maxsize=16)
def _load_student(settings: str, words: tuple[str, ...] | None) -> Student:
    return load_student(StudentSettings.model_validate_json(settings), words)


def digest(*values: object) -> str:
    """A short digest of JSON values, for inputs too large to write out.

    An iterator counts as the list of what it gives, of which some are held at a time.
    """
    hashed = hashlib.sha256(b"[")
    for place, value in enumerate(values):
        hashed.update(b", " if place else b"")
        for text in _json_of_items(value) if isinstance(value, Iterator) else [_json(value)]:
            hashed.update(text.encode())
    hashed.update(b"]")
    return hashed.hexdigest()[:16]


def _json_of_items(items: Iterator[object]) -> Iterator[str]:
    """The JSON text of a list, in pieces."""
    yield "["
    between = ""
    while some := list(itertools.islice(items, 1024)):
        yield between + _json(some)[1:-1]
        between = ", "
    yield "]"


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
