"""How fast text becomes records, and records come back: tokens and records a second.

    python -m benchmarks.records [--tokenizer FOLDER] [--completions FILE ...] [--texts 20000] [--folder DIR]

Texts are the rationales of completion files in the authors' JSON, repeated as needed; without files, generated ones.
Without a tokenizer, words are tokens. Where other programs share the machine, tokens a CPU-second (of all threads) is
the figure to trust: several ways are timed by turns on the same batches, so that a busy moment hits all of them.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from etils import epath
from tokenizers import Tokenizer

from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.records.builder import read_dataset, read_records, write_records
from ftcot_jax.records.manifest import Made
from ftcot_jax.records.tokenize import TEXTS, RecordSettings, tokenize_pairs
from ftcot_jax.students.word_tokenizer import word_tokenizer
from ftcot_jax.teacher.completion import read_completions

WORDS = [f"word{number}" for number in range(5000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--completions", nargs="*", type=Path, default=[])
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    texts = read_texts(arguments.completions, arguments.texts)
    if arguments.tokenizer:
        backend = Tokenizer.from_file(str(arguments.tokenizer / "tokenizer.json"))
    else:
        backend = word_tokenizer(WORDS).backend_tokenizer
    print(f"{len(texts)} texts of {sum(map(len, texts)) / len(texts):.0f} characters, mean")
    time_tokenizing(backend, texts)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        time_disk(backend, texts, epath.Path(folder) / "records")


def read_texts(files: list[Path], count: int) -> list[str]:
    """`count` rationales, from completion files or made of words."""
    found = [row.reasoning_completion for file in files for row in read_completions(file).completions]
    if not found:
        rng = np.random.default_rng(0)
        found = [" ".join(rng.choice(WORDS, length)) for length in rng.integers(30, 130, count)]
    return list(itertools.islice(itertools.cycle(found), count))


def time_tokenizing(backend: Tokenizer, texts: list[str]) -> None:
    """Prints tokens a second of each way to encode."""

    def lists(encode: Callable[..., list[object]]) -> Callable[[list[str]], list[list[int]]]:
        return lambda batch: [encoding.ids for encoding in encode(batch, add_special_tokens=False)]  # type: ignore[attr-defined]

    ways = {
        "encode_batch": lists(backend.encode_batch),
        "encode_batch_fast, as students do": lists(backend.encode_batch_fast),
    }
    spent = {name: [0.0, 0.0] for name in ways}
    tokens = 0
    for begin in range(0, len(texts), TEXTS):
        batch = texts[begin : begin + TEXTS]
        for name, way in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            ids = way(batch)
            spent[name][0] += time.process_time() - cpu
            spent[name][1] += time.perf_counter() - wall
        tokens += sum(map(len, ids))
    print("| tokenising | M tokens a CPU-second | M tokens a second |\n|---|---|---|")
    for name, (cpu, wall) in spent.items():
        print(f"| {name} | {tokens / cpu / 1e6:.2f} | {tokens / wall / 1e6:.2f} |")


def time_disk(backend: Tokenizer, texts: list[str], folder: epath.Path) -> None:
    """Prints records a second of each stage."""
    asked = [" ".join(text.split()[:40]) for text in texts]
    pairs = [Pair(number // 8, number % 8, asked[number - number % 8], text, True) for number, text in enumerate(texts)]

    def encode(batch: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in backend.encode_batch_fast(batch, add_special_tokens=False)]

    print("| stage | records a second | a CPU-second |\n|---|---|---|")

    def timed(name: str, act: Callable[[], object]) -> object:
        cpu, wall = time.process_time(), time.perf_counter()
        result = act()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(f"| {name} | {len(pairs) / wall:.0f} | {len(pairs) / cpu:.0f} |", flush=True)
        return result

    made = tokenize_pairs(pairs, encode, 0, 10**6, RecordSettings())  # type: ignore[arg-type]
    timed("write dataset and arrays", lambda: write_records(folder, made.table, Made(tokenizer="-", template={})))
    timed("read the dataset", lambda: read_dataset(folder))
    table = timed("check the files, map the arrays", lambda: read_records(folder))
    order = np.random.default_rng(0).permutation(len(pairs))
    timed(
        "gather batches of 8 from the map",
        lambda: [table.only(part) for part in np.split(order, range(8, len(order), 8))],
    )  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
