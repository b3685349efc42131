"""A tokenizer of whole words, for students trained from scratch on a task with a closed vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

END = "END"
PAD = "<pad>"


def word_tokenizer(words: Sequence[str]) -> Any:
    """Returns a transformers fast tokenizer with one token a word, split at white space.

    There is no token for unknown words: encoding one is an error, because a student that silently reads
    ``<unk>`` for a name trains on another task. The text END is the end token. Decoding joins by spaces.

    Args:
      words: the vocabulary, in the order of the ids; 0 is padding and 1 is END.
    """
    import tokenizers  # slow to import, like transformers: only when a student is made
    from transformers import PreTrainedTokenizerFast

    ids = {PAD: 0, END: 1}
    for word in words:
        ids.setdefault(word, len(ids))
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
