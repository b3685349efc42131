"""TRL's SFTTrainer on the same records: `python -m benchmarks.peers.trl_steps FOLDER`, in the environment ``trl``.

As TRL does it by itself: best-fit packing of the whole set into rows of its default 1024 tokens, records told apart by
positions, loss in chunks. So a step is one row of other records than ours takes, about as many tokens as eight of
MultiArith's; the loss is on labels. Set otherwise than its defaults, as ours and the reference have it: float32,
constant learning rate 3e-4, AdamW's weight decay 0.01, no clipping, no recomputation, dropout only if asked. The
trainer's own loop runs; blocks are cut out of it by a callback.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from benchmarks.peers.answering import blocks_asked, claim_stdout, say, say_block, say_end
from benchmarks.peers.work import STUDENT, GivenWork

ROW = 1024


class Trainer(trl.SFTTrainer):
    """Notes the loss, the records and the tokens of each step."""

    noted: tuple[float, int, int]

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        records, tokens = int((inputs["position_ids"] == 0).sum()), inputs["input_ids"].numel()
        loss = super().training_step(model, inputs, *rest)
        self.noted = (float(loss), records, tokens)
        return loss


class Turns(transformers.TrainerCallback):
    """Has the trainer wait when a block is done, until another is asked for."""

    def __init__(self, answers: Any) -> None:
        self.trainer: Any = None
        self._answers, self._asked = answers, blocks_asked()
        self._left, self._rows, self._since = 0, [], 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._left:
            self._left = next(self._asked)
            self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.perf_counter()
        self._rows.append((now - self._since, *self.trainer.noted))
        self._since, self._left = now, self._left - 1
        if not self._left:
            say_block(self._answers, self._rows)
            self._rows = []


def trainer_of(folder: Path, work: GivenWork, callback: Turns, output: Path) -> Trainer:
    """TRL's trainer of as many steps as the work has."""
    rates = {} if work.dropout else {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / STUDENT, dtype=torch.float32, **rates)
    labelled = [
        [int(place >= prompt) for place in range(len(record))]
        for record, prompt in zip(work.records, work.prompt_lengths.tolist(), strict=True)
    ]
    records = {"input_ids": [record.tolist() for record in work.records], "completion_mask": labelled}
    trainer = Trainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(output),
            packing=True,
            max_length=ROW,
            completion_only_loss=True,
            per_device_train_batch_size=1,
            max_steps=len(work.steps),
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            max_grad_norm=0.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_dict(records),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder / STUDENT),
        callbacks=[callback],
    )
    callback.trainer = trainer
    return trainer


if __name__ == "__main__":
    answers, folder = claim_stdout(), Path(sys.argv[1])
    turns = Turns(answers)
    trainer = trainer_of(folder, GivenWork.read(folder), turns, folder / "trl")
    program = f"TRL {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
    say(answers, {"program": f"{program}, {trainer.model.config._attn_implementation} attention"})
    trainer.train()
    say_end(answers)
