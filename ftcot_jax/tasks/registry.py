"""The tasks there are, declared: sources at pinned commits with checksums, answer forms, licences."""

from __future__ import annotations

from ftcot_jax.errors import UsageError, nearest
from ftcot_jax.tasks import readers
from ftcot_jax.tasks.splits import before_the_date_asked, without_names_and_digits
from ftcot_jax.tasks.task import Source, Task
from ftcot_jax.tasks.weekday import DAYS


def _kojima(path: str, sha256: str) -> tuple[Source, ...]:
    commit = "5ef330fcdeec0cd26aee27943504f91f8ec1c33c"
    return (Source("kojima-takeshi188/zero_shot_cot", commit, f"dataset/{path}", sha256),)


def _gsm8k(name: str, sha256: str) -> Source:
    commit = "3101c7d5072418e28b9008a6636bde82a006892c"
    return Source("openai/grade-school-math", commit, f"grade_school_math/data/{name}.jsonl", sha256)


_TASKS = (
    Task(
        key="single_eq",
        arithmetic=True,
        answer_type="float",
        licence="not stated upstream",
        citation="Koncel-Kedziorski et al., TACL 2015",
        size=508,
        sources=_kojima("SingleEq/questions.json", "051507bd2b489c257057b485774a83d2710c23a4bc0f4a58e1822ae2773ef05e"),
        read=readers.math_word_problems,
    ),
    Task(
        key="addsub",
        arithmetic=True,
        answer_type="float",
        licence="not stated upstream",
        citation="Hosseini et al., EMNLP 2014",
        size=395,
        sources=_kojima("AddSub/AddSub.json", "21930fa90385c72b5a15f4b9a4dda27276b889ae9ff44285505cdd9fa0a20df8"),
        read=readers.math_word_problems,
    ),
    Task(
        key="multiarith",
        arithmetic=True,
        answer_type="integer",
        licence="not stated upstream",
        citation="Roy and Roth, EMNLP 2015",
        size=600,
        sources=_kojima(
            "MultiArith/MultiArith.json", "dc9db1b6cc68b1ecc2dec830d15aaf8c9a0932aa31d5ffce88ef3628179d36f4"
        ),
        read=readers.multiarith,
        template_of=without_names_and_digits,
    ),
    Task(
        key="gsm8k",
        arithmetic=True,
        answer_type="integer",
        licence="MIT",
        citation="Cobbe et al., arXiv 2110.14168",
        size=8792,
        sources=(
            _gsm8k("train", "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
            _gsm8k("test", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),
        ),
        read=readers.gsm8k,
        train_size=7473,
    ),
    Task(
        key="aqua",
        arithmetic=True,
        answer_type="choice",
        choices=tuple("ABCDE"),
        licence="Apache-2.0",
        citation="Ling et al., ACL 2017",
        size=97721,
        sources=(
            Source(
                "google-deepmind/AQuA",
                "6e99097ff2e05b406f4ddca8cbf25e7e9efb7cb5",
                "train.json",
                sha256=None,
                rows=97467,
            ),
            *_kojima("AQuA/test.json", "de41581881ef95c5588c44ddc701c77fd480839241dd422a0d181262af24520c"),
        ),
        read=readers.aqua,
        train_size=97467,
        train_sample=10_000,
    ),
    Task(
        key="svamp",
        arithmetic=True,
        answer_type="float",
        licence="MIT",
        citation="Patel et al., NAACL 2021",
        size=1000,
        sources=_kojima("SVAMP/SVAMP.json", "5be77703a6d891ae476d7c082787ad361392aa02453b132516cdd5f4e7934e3e"),
        read=readers.svamp,
    ),
    Task(
        key="date_understanding",
        answer_type="choice",
        choices=tuple("ABCDEF"),
        licence="Apache-2.0",
        citation="Srivastava et al. (BIG-bench), TMLR 2023",
        size=369,
        sources=_kojima("Bigbench_Date/task.json", "ff716f0e399109146db3a998281c39954907b78268a9b633a95582d63847822f"),
        read=readers.date_understanding,
        template_of=before_the_date_asked,
    ),
    Task(
        key="tracking_shuffled_objects",
        answer_type="choice",
        choices=tuple("ABC"),
        licence="Apache-2.0",
        citation="Srivastava et al. (BIG-bench), TMLR 2023",
        size=750,
        sources=_kojima(
            "Bigbench_object_tracking/task.json", "74b74d3c8827c0387a3f24ee9efa7edd90b2d53af3daacb9961341af66f750a0"
        ),
        read=readers.tracking_shuffled_objects,
    ),
    Task(
        key="last_letter_concatenation",
        answer_type="letters",
        licence="not stated upstream",
        citation="Wei et al., NeurIPS 2022; questions of Kojima et al., NeurIPS 2022",
        size=500,
        sources=_kojima(
            "last_letters/last_letters.json",
            "60e8d092d0a6423d3256e87e0c249b69aefea4cd27985082095fa4e93931fb02",
        ),
        read=readers.examples,
    ),
    Task(
        key="coin_flip",
        answer_type="yes_no",
        licence="not stated upstream",
        citation="Wei et al., NeurIPS 2022; questions of Kojima et al., NeurIPS 2022",
        size=500,
        sources=_kojima("coin_flip/coin_flip.json", "68cf201737a1463ef6bed5419622805a8934d92bff6a28a9dfbf83be3135ba5a"),
        read=readers.examples,
    ),
    Task(
        key="commonsense_qa",
        answer_type="choice",
        choices=tuple("ABCDE"),
        licence="MIT",
        citation="Talmor et al., NAACL 2019",
        size=10962,
        sources=(
            *_kojima(
                "CommonsenseQA/train_rand_split.jsonl",
                "58ffa3c8472410e24b8c43f423d89c8a003d8284698a6ed7874355dedd09a2fb",
            ),
            *_kojima(
                "CommonsenseQA/dev_rand_split.jsonl",
                "3210497fdaae614ac085d9eb873dd7f4d49b6f965a93adadc803e1229fd8a02a",
            ),
        ),
        read=readers.commonsense_qa,
        train_size=9741,
    ),
    Task(
        key="strategy_qa",
        answer_type="yes_no",
        licence="MIT",
        citation="Geva et al., TACL 2021; BIG-bench's version",
        size=2290,
        sources=_kojima("StrategyQA/task.json", "60af9081fed20102fd8bb1e02dc7d9f12238efcba33e4c1a56b4d61cb6409803"),
        read=readers.strategy_qa,
    ),
    Task(
        key="weekday_tracking",
        answer_type="word",
        licence="Apache-2.0 (generated by this package)",
        citation="this package",
        choices=DAYS,
    ),
)

TASKS = {task.key: task for task in _TASKS}


def get_task(key: str) -> Task:
    """Returns the task called `key`.

    Raises:
      UsageError: there is none; the nearest name is shown.
    """
    try:
        return TASKS[key]
    except KeyError:
        known = ", ".join(TASKS)
        raise UsageError(f"task.key: no task is called '{key}'{nearest(key, TASKS)}; there are {known}") from None
