"""The API key: from the environment alone, and fit for a header."""

from __future__ import annotations

import os

from ftcot_jax.errors import UsageError


def read_key(key_env: str) -> str | None:
    """The API key, None if the variable is unset.

    Raises:
      UsageError: it has characters no HTTP header may hold; the message does not show it.
    """
    key = os.environ.get(key_env, "").strip()
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError(f"{key_env}: the key has blanks or characters that no API key has; set it again")
    return key or None
