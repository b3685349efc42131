"""Hugging Face's generate of the given texts: `python -m benchmarks.peers.reference_texts FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.answering import answer_texts, claim_stdout
from benchmarks.peers.work import STUDENT, GivenWork
from ftcot_jax.bench.transformers_writer import TransformersWriter
from ftcot_jax.bench.writing_work import Work

if __name__ == "__main__":
    answers, folder = claim_stdout(), Path(sys.argv[1])
    given = GivenWork.read(folder)
    work, writer = Work(given.prompts, given.lengths), TransformersWriter(folder / STUDENT, "float32")
    answer_texts(answers, {"program": writer.name}, folder, "reference", lambda: writer.write(work))
