"""Our generation of the given texts: `python -m benchmarks.peers.our_texts FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import jax

from benchmarks.peers.answering import Texts, answer_texts, claim_stdout
from benchmarks.peers.work import STUDENT, GivenWork
from ftcot_jax.generation.generate import generate
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings

if __name__ == "__main__":
    answers, folder = claim_stdout(), Path(sys.argv[1])
    work = GivenWork.read(folder)
    student = load_student(StudentSettings(checkpoint=str(folder / STUDENT), dropout=False))
    params = student.load()

    def write() -> Texts:
        results = generate(student, params, work.prompts, max_length=1024, max_new_tokens=work.lengths, ignore_end=True)
        return [result.tokens for result in results]

    answer_texts(answers, {"program": f"ftcot_jax, jax {jax.__version__}"}, folder, "ours", write)
