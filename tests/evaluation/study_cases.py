"""Texts for the sample study: an ordinary set of two students, and one that is out to get the reader."""

from __future__ import annotations

from ftcot_jax.evaluation.study import Sheet
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.teacher.completion import Completion

HOSTILE = (
    '<img src=x onerror="window.hacked=1">',
    "</script><script>window.hacked=2</script>",
    "<!--<script>window.hacked=3//",
    "\"'`${window.hacked=4}` \\u003c \\",
    "a\u202eevil\u202c b\u2066c\u2069 \u200fd",
    "one\u2028two\u2029three\x00four",
    "{script} {data} {style_hash} {{x}} ]]>",
    "שלום <b>bold</b> &lt;i&gt; &amp;",
)


def row(index: int, question: str, answer: str, text: str, number: int = 0, reason: str = "stop") -> Completion:
    return Completion(index, number, question, answer, None, None, None, "p", text, reason)


def hostile() -> list[Sheet]:
    """Everything a reader sees is hostile: questions, rationales, the answer's gold, reasons and the student's name."""
    rows = [row(number, f"Q {text}", "8", f"{text} --> 8") for number, text in enumerate(HOSTILE)]
    two_steps = Completion(99, 0, "last", HOSTILE[0], "p", HOSTILE[1], HOSTILE[0], "p", HOSTILE[0], HOSTILE[1])
    return [Sheet(f"student {HOSTILE[0]}", get_task("multiarith"), [*rows, two_steps], "-->", "paper")]


def ordinary() -> list[Sheet]:
    """45 questions of multiarith answered by two students: one right on even numbers, one on multiples of three.

    Each has its own way of going wrong, so that every category occurs.
    """
    task = get_task("multiarith")

    def even(index: int) -> str:
        if index == 1:
            return "I say it over and over. " * 8
        slip = "2 + 2 = 5. " if index in (2, 3) else ""
        return f"Take {index} pears. {slip}{index} + 0 = {index} --> {index if index % 2 == 0 else 77}"

    def third(index: int) -> str:
        return f"{'long ' * 900 if index == 6 else ''}It is so. --> {index if index % 3 == 0 else 88}"

    questions = [(index, f"How many are {index} fruits?", str(index)) for index in range(45)]
    first = [
        row(*question, even(question[0]), reason="length" if question[0] == 1 else "stop") for question in questions
    ]
    second = [row(*question, third(question[0])) for question in questions]
    several = [row(7, "Riddle?", "7", f"--> {7 if number < 4 else 9}", number) for number in range(6)]
    svamp = [Sheet("even", get_task("svamp"), several, "-->", "paper")]
    return [Sheet("even", task, first, "-->", "paper"), Sheet("third", task, second, "-->", "paper"), *svamp]
