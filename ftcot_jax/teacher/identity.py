"""A request's identity: by content, so that running again, or asking for more, buys nothing a second time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_quoted = json.JSONEncoder(ensure_ascii=False).encode


class IdentityMaker:
    """From a prompt to the address of everything that decides its samples, apart from their number.

    What all prompts of one source and sampling share is hashed once.

    Args:
      source: who writes.
      sampling: how.
    """

    def __init__(self, source: Mapping[str, Any], sampling: Mapping[str, Any]) -> None:
        head, tail = (json.dumps(dict(part), sort_keys=True, ensure_ascii=False) for part in (source, sampling))
        self._head = hashlib.sha256(f"[{head}, ".encode())
        self._tail = f", {tail}]"

    def __call__(self, prompt: str) -> str:
        digest = self._head.copy()
        digest.update(f"{_quoted(prompt)}{self._tail}".encode())
        return digest.hexdigest()[:32]
