"""EasyDeL's trainer on the same records: `python -m benchmarks.peers.easydel_steps FOLDER`.

In the environment ``easydel``; its own loop, in its own jax. Every record is padded on the right to the longest of the
set: its packing makes rows of the whole set, not of eight given records. Float32, AdamW of learning rate 3e-4 and
weight decay 0.01, no clipping. The loss is the mean over label tokens, which it is not by default: -100 is left out of
the sum there, but counted in the mean.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.answering import blocks_asked, claim_stdout, say, say_block, say_end
from benchmarks.peers.padded import IGNORED
from benchmarks.peers.work import STUDENT, GivenWork

ANSWERS = claim_stdout()
os.environ["JAX_PLATFORMS"] = "cpu"

import datasets  # noqa: E402
import easydel  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import transformers  # noqa: E402


class Trainer(easydel.Trainer):
    """Waits when a block is done, until another is asked for."""

    def asked(self, work: GivenWork) -> None:
        self._work, self._blocks, self._rows = work, blocks_asked(), []
        self._left = 0

    def on_step_start(self, state: Any, step: int) -> Any:
        if not self._left:
            self._left, self._since = next(self._blocks), time.perf_counter()
        return super().on_step_start(state=state, step=step)

    def on_step_end(self, state: Any, metrics: Any, step: int) -> Any:
        jax.block_until_ready(state)
        now, records = time.perf_counter(), self._work.steps[step - 1]
        self._rows.append((now - self._since, float(metrics.loss), len(records), self._work.tokens_of(records)))
        self._since, self._left = now, self._left - 1
        if not self._left:
            say_block(ANSWERS, self._rows)
            self._rows = []
        return super().on_step_end(state=state, metrics=metrics, step=step)


def rows_of(work: GivenWork, pad: int) -> datasets.Dataset:
    """The records of all steps in their order, padded on the right."""
    width = max(map(len, work.records))
    rows = []
    for number in (number for step in work.steps for number in step):
        record, prompt = work.records[number].tolist(), int(work.prompt_lengths[number])
        free = width - len(record)
        rows.append(
            {
                "input_ids": record + [pad] * free,
                "attention_mask": [1] * len(record) + [0] * free,
                "labels": [IGNORED] * prompt + record[prompt:] + [IGNORED] * free,
            }
        )
    return datasets.Dataset.from_list(rows)


def trainer_of(folder: Path, work: GivenWork) -> Trainer:
    rates = {} if work.dropout else {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = easydel.AutoEasyDeLModelForCausalLM.from_pretrained(
        str(folder / STUDENT),
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        precision=jax.lax.Precision.HIGHEST,
        config_kwargs={"tie_word_embeddings": True, **rates},
        from_torch=True,
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / STUDENT)
    dataset = rows_of(work, tokenizer.eos_token_id)
    arguments = easydel.TrainingArguments(
        save_directory=str(folder / "easydel"),
        total_batch_size=work.batch,
        max_length=len(dataset[0]["input_ids"]),
        num_train_epochs=1,
        max_training_steps=len(work.steps),
        learning_rate=3e-4,
        scheduler="none",
        optimizer="adamw",
        weight_decay=0.01,
        shuffle_train_dataset=False,
        do_last_save=False,
        save_steps=None,
        report_metrics=False,
        use_wandb=False,
        track_memory=False,
        loss_config=easydel.LossConfig(reduction="mean"),
    )
    return Trainer(arguments=arguments, model_state=model.to_state(), dataset_train=dataset, processing_class=tokenizer)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    work = GivenWork.read(folder)
    trainer = trainer_of(folder, work)
    trainer.asked(work)
    say(ANSWERS, {"program": f"EasyDeL {easydel.__version__}, jax {jax.__version__}"})
    trainer.train()
    say_end(ANSWERS)
