"""The selection written plainly over pairs that are all in memory: what the table's columns must come to."""

from __future__ import annotations

from collections import Counter

from ftcot_jax.rationales.duplicates import equation_sequence, exact_key, text_key
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.rationales.select import question_subset
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.tasks.overlap import find_overlap
from ftcot_jax.tasks.scoring import Scoring, majority, same_answer
from ftcot_jax.tasks.task import TaskData


def plain_selection(
    data: TaskData, pairs: list[Pair], scoring: Scoring, settings: SelectSettings, fits: list[bool]
) -> tuple[list[int], Counter[str]]:
    """The places chosen, in order, and how many pairs each reason took."""
    taken: Counter[str] = Counter()
    left = list(range(len(pairs)))

    def keep(reason: str, stays: list[int]) -> None:
        taken[reason] += len(left) - len(stays)
        left[:] = stays

    subset, overlap = set(question_subset(data.split.train, settings).tolist()), find_overlap(data)
    seen = {"no": (), "text": overlap.train_same_text, "template": overlap.train_same_template}[settings.decontaminate]
    keep("other_questions", [place for place in left if pairs[place].sample_index in subset])
    keep("contaminated", [place for place in left if pairs[place].sample_index not in seen])
    most = settings.diversity or 10**9
    keep("beyond_diversity", [place for place in left if pairs[place].completion_index < most])
    if settings.filter == "answer":
        keep("wrong", [place for place in left if pairs[place].correct])
    if settings.filter == "majority":
        keep(
            "wrong",
            [place for group in _questions(pairs, left) for place in _agreeing(data, pairs, group, scoring, settings)],
        )
    keep("no_answer", [place for place in left if pairs[place].answer])
    least, longest = settings.min_words or 0, settings.max_words or 10**9
    keep("out_of_length", [place for place in left if least <= len(pairs[place].rationale.split()) <= longest])
    if settings.duplicates != "keep":
        near, arithmetic = settings.duplicates == "near", data.task.arithmetic
        keep(
            "duplicates",
            [place for group in _questions(pairs, left) for place in _first(pairs, group, near, arithmetic)],
        )
    keep("too_long", [place for place in left if fits[place]])
    if settings.per_question is not None:
        capped = [place for group in _questions(pairs, left) for place in group[: settings.per_question]]
        keep("beyond_per_question", capped)
    taken["kept"] = len(left)
    groups = _questions(pairs, left)
    if settings.balance and groups:
        longest = max(map(len, groups))
        left = [group[turn % len(group)] for group in groups for turn in range(longest)]
    return left, +taken


def _questions(pairs: list[Pair], places: list[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for place in places:
        groups.setdefault(pairs[place].sample_index, []).append(place)
    return list(groups.values())


def _agreeing(
    data: TaskData, pairs: list[Pair], group: list[int], scoring: Scoring, settings: SelectSettings
) -> list[int]:
    winner, share = majority(data.task, [pairs[place].prediction for place in group], scoring)
    if winner is None or share < settings.majority_share:
        return []
    given = [(place, pairs[place].prediction) for place in group]
    return [place for place, text in given if text is not None and same_answer(data.task, text, winner, scoring)]


def _first(pairs: list[Pair], group: list[int], near: bool, arithmetic: bool) -> list[int]:
    known: set[object] = set()
    first = []
    for place in group:
        text = pairs[place].rationale
        keys: set[object] = {text_key(text) if near else exact_key(text)}
        if near and arithmetic and equation_sequence(text):
            keys.add(equation_sequence(text))
        if not keys & known:
            first.append(place)
            known |= keys
    return first
