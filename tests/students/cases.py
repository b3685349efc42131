"""Small checkpoints of every architecture, with odd shapes, as folders in the Hugging Face layout.

Weights come from numpy's Philox by tensor name, so that a golden file holds only what PyTorch computed.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ftcot_jax.students.family import Stored
from ftcot_jax.students.load import load_student
from ftcot_jax.students.safetensors_file import write_safetensors
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student

WORDS = [f"w{number}" for number in range(90)]

LLAMA = {
    "hidden_size": 48,
    "intermediate_size": 77,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
}
QWEN3 = LLAMA | {"num_key_value_heads": 3, "head_dim": 14}
T5 = {
    "d_model": 36,
    "d_kv": 10,
    "d_ff": 50,
    "num_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "vocab_size": 97, **LLAMA},
    "llama_tied_biased_linear_rope": {
        "model_type": "llama",
        **LLAMA,
        "hidden_size": 36,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "head_dim": 10,
        "attention_bias": True,
        "mlp_bias": True,
        "hidden_act": "gelu",
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    },
    "llama3_rope": {
        "model_type": "llama",
        **LLAMA,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
    "llama_yarn": {
        "model_type": "llama",
        **LLAMA,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 24,
        },
    },
    "qwen2": {"model_type": "qwen2", **LLAMA},
    "qwen3": {"model_type": "qwen3", **QWEN3},
    "smollm3": {"model_type": "smollm3", **LLAMA, "num_hidden_layers": 4, "no_rope_layer_interval": 2},
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 101,
        "n_embd": 36,
        "n_head": 3,
        "n_layer": 3,
        "n_inner": 50,
        "n_positions": 96,
    },
    "gpt2_untied_unscaled": {
        "model_type": "gpt2",
        "n_embd": 20,
        "n_head": 5,
        "n_layer": 2,
        "n_positions": 96,
        "tie_word_embeddings": False,
        "scale_attn_weights": False,
        "activation_function": "relu",
    },
    "t5": {"model_type": "t5", **T5},
    "t5_v1_1": {
        "model_type": "t5",
        **T5,
        "vocab_size": 99,
        "num_decoder_layers": 3,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
}


def write_case(name: str, folder: Path, dtype: Any = np.float32) -> Student:
    """Writes the case's checkpoint into the folder and returns its student."""
    scratch = load_student(StudentSettings(scratch=CASES[name]), WORDS)
    scratch.config.architectures = [scratch.architecture]
    folder.mkdir(parents=True, exist_ok=True)
    scratch.config.save_pretrained(folder)
    scratch.tokenizer.save_pretrained(folder)
    tensors = {}
    for path, leaf in scratch.shapes_by_path.items():
        place: Stored = scratch.stored[path]
        shape = place.shape(leaf.shape[1:] if place.stacked else leaf.shape)
        for layer in range(leaf.shape[0] if place.stacked else 1):
            tensor = place.name.format(layer=layer)
            tensors[tensor] = weight(tensor, shape).astype(dtype)
    shapes = {tensor: (array.shape, array.dtype) for tensor, array in tensors.items()}
    write_safetensors(folder / "model.safetensors", iter(tensors.items()), shapes)
    return load_student(StudentSettings(checkpoint=str(folder)))


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 tensor of sensible size for its place, decided by its name and shape."""
    draw = np.random.Generator(np.random.Philox(zlib.crc32(name.encode()))).standard_normal(shape)
    if len(shape) > 1:
        return (draw * 1.2 / np.sqrt(shape[-1])).astype(np.float32)
    return (0.1 * draw + name.endswith("weight")).astype(np.float32)


TEXTS = [[5, 9, 33, 2, 71, 8, 8, 12, 60], [40, 3, 3, 17], [88, 6, 7, 21, 50, 34, 2]]
PROMPT_LENGTHS = [4, 2, 3]
"""Token ids of three texts of different lengths; the tokens after each prompt are labels."""
