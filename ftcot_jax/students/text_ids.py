"""Text to a tokenizer's ids and back, and the token that ends a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftcot_jax.errors import FtcotError, nearest


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of each text, without special tokens added.

    Raises:
      FtcotError: a word is not in a from-scratch student's vocabulary.
    """
    backend = tokenizer.backend_tokenizer
    try:
        # the fast form leaves out where in the text a token was, which nothing here asks for
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
    except Exception as error:  # the library raises bare Exception for a word it does not know
        for text in texts:
            for word in text.split():
                if backend.token_to_id(word) is None:
                    hint = nearest(word, backend.get_vocab())
                    raise FtcotError(
                        f"the student's vocabulary lacks the word {word!r}{hint}, in {text[:80]!r}; "
                        "build the student with every word of the task"
                    ) from error
        raise


def decode(tokenizer: Any, ids: Sequence[Sequence[int]]) -> list[str]:
    """Returns the text of each list of token ids, special tokens left out."""
    texts: list[str] = tokenizer.backend_tokenizer.decode_batch([list(map(int, row)) for row in ids])
    return texts


def end_token(tokenizer: Any, config: Any, where: str) -> int:
    """The token that ends an answer: the tokenizer's, or else the config's.

    Raises:
      FtcotError: neither names one; `where` is the student's folder.
    """
    end = config.eos_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if not isinstance(end, int):
        raise FtcotError(f"{where}: the tokenizer names no eos_token; add one")
    return end
