"""Ending a text where a string occurs in it, though the string need not be a token."""

from __future__ import annotations

from collections.abc import Sequence

from ftcot_jax.students.student import Student


class StopStrings:
    """Finds the first of some strings in a text's tokens.

    Args:
      student: whose tokenizer turns tokens into text.
      strings: none empty; without any, nothing is ever found.
    """

    def __init__(self, student: Student, strings: Sequence[str]) -> None:
        self._student, self._strings = student, tuple(strings)

    def tokens_before(self, tokens: Sequence[int]) -> int | None:
        """Returns how many whole tokens come before the first string; None where there is none."""
        if not self._strings:
            return None
        (text,) = self._student.decode([tokens])
        places = [place for string in self._strings if (place := text.find(string)) >= 0]
        if not places:
            return None
        prefixes = self._student.decode([tokens[:count] for count in range(len(tokens) + 1)])
        return max(count for count, prefix in enumerate(prefixes) if len(prefix) <= min(places))
