"""A programmatic teacher for weekday tracking: varied in wording and order, and sometimes a day off."""

from __future__ import annotations

import dataclasses
import hashlib
import random

from ftcot_jax.tasks.templates import answer_prompt, zero_shot_cot_prompt
from ftcot_jax.tasks.weekday import DAYS, parse, shift


@dataclasses.dataclass(frozen=True)
class WeekdayTeacher:
    """Writes rationales and reads answers off them.

    Attributes:
      seed: of this teacher; the same prompt, request seed and choice always give the same text.
      slip_rate: chance, at each step, of ending one day off and carrying on from there.
      wordings: 1 or 2 ways of wording a step.
      orders: 1: moves as asked; 2: as asked or last move first, which ends on the same day.
    """

    seed: int
    slip_rate: float
    wordings: int
    orders: int

    def complete(self, prompt: str, request_seed: int, choice: int) -> str:
        """The text that follows a step-1 or step-2 prompt.

        Raises:
          ValueError: the prompt asks no weekday question.
        """
        head, tail = zero_shot_cot_prompt("\0").split("\0")
        question, _, rationale = prompt.removeprefix(head).partition(tail)
        if prompt.endswith(answer_prompt("", "")):
            return f" {_last_day(rationale)}"
        digest = hashlib.sha256(f"{self.seed}\0{prompt}\0{request_seed}\0{choice}".encode()).digest()
        return self._rationale(question, random.Random(digest))

    def _rationale(self, question: str, rng: random.Random) -> str:
        day, moves = parse(question)
        wording, order = rng.randrange(self.wordings), rng.randrange(self.orders)
        steps = []
        for days, way in moves if order == 0 else reversed(moves):
            reached = shift(day, days, way)
            if rng.random() < self.slip_rate:
                reached = shift(reached, 1, rng.choice(("later", "before")))
            steps.append(
                f"{day} {days} {way} {reached} ." if wording == 0 else f"{days} {way} than {day} is {reached} ."
            )
            day = reached
        return " " + " ".join(steps)


def _last_day(rationale: str) -> str:
    days = [word for word in rationale.split() if word in DAYS]
    if not days:
        raise ValueError("a rationale without a day")
    return days[-1]
