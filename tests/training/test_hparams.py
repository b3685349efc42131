"""What TensorBoard's HParams tab is told of a trial."""

from __future__ import annotations

from pathlib import Path

from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from ftcot_jax.training.hparams import write_hparams
from tests.training.test_metric_log import events


def test_what_the_grid_changed_and_the_accuracy(tmp_path: Path) -> None:
    recipe = {"template": "ft_token", "train": {"learning_rate": 0.1, "seed": 3}, "select": {"diversity": None}}
    overlay = {"seed": 3, "chat": True, "student": {"checkpoint": "x"}, "train.batch.tokens": None}
    row = {"recipe": recipe, "overlay": overlay, "accuracy": 0.25, "steps": 40}
    write_hparams(tmp_path / "trial", row)
    values = {value.tag: value for event in events(tmp_path / "trial") for value in event.summary.value}
    data = HParamsPluginData.FromString(values["_hparams_/session_start_info"].metadata.plugin_data.content)
    told = {name: value.WhichOneof("kind") for name, value in data.session_start_info.hparams.items()}
    assert told == {
        "template": "string_value",
        "train.learning_rate": "number_value",
        "train.seed": "number_value",
        "seed": "number_value",
        "chat": "bool_value",
        "student": "string_value",
    }
    assert data.session_start_info.hparams["student"].string_value == '{"checkpoint": "x"}'
    assert values["accuracy"].simple_value == 0.25
    assert [event.step for event in events(tmp_path / "trial") if event.summary.value] == [40, 40, 40]
    assert "_hparams_/session_end_info" in values
