"""JSON of any length, read piece by piece."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ftcot_jax.text_files import json_decoder

_CHUNK = 1 << 18  # bytes read at a time, or as many as one value needs
_SPACE = re.compile(r"[ \t\n\r]*")
_PART = 8  # characters: as much of a number can be held and not yet be read, such as "." and "e+"


class JsonStream:
    """The JSON text of a file, taken from its beginning to its end; what was taken is not held.

    Whatever is no JSON raises ValueError or RecursionError without saying where; `read_json` says it. In an object that
    is taken whole no key is there twice.

    Args:
      file: UTF-8, with or without a byte order mark.

    Attributes:
      position: bytes taken so far.
      key_start: where the last of `each_key` started.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._parse = json_decoder().raw_decode
        start = file.read(len(codecs.BOM_UTF8))
        marked = start == codecs.BOM_UTF8
        self._held, self._at = "" if marked else self._decode(start), 0
        self.position = len(start) if marked else 0
        self.key_start = self.position

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            space = _SPACE.match(self._held, self._at)
            assert space is not None  # for it may be empty
            self._advance(space.end())
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        """Takes the next character that is no space, which must be this."""
        if self.peek() != expected:
            raise ValueError(f"no {expected}")
        self._advance(self._at + 1)

    def value(self) -> Any:
        """The JSON value that comes next."""
        self.peek()
        while True:
            try:
                value, end = self._parse(self._held, self._at)
            except ValueError:
                if not self._more():
                    raise
                continue
            length = end - self._at
            if len(self._held) - end > _PART or not self._more():  # a number at the end may go on
                self._advance(self._at + length)
                return value

    def each_key(self) -> Iterator[str]:
        """Each key of the object that comes next; its value is to be taken before the next key."""
        self.take("{")
        if self.peek() == "}":
            return self.take("}")
        while True:
            self.peek()
            start = self.position
            key = self.value()
            if not isinstance(key, str):
                raise ValueError("a key is no text")
            self.take(":")
            self.key_start = start
            yield key
            if self.peek() != ",":
                return self.take("}")
            self.take(",")

    def _advance(self, to: int) -> None:
        self.position += len(self._held[self._at : to].encode())
        self._at = to

    def _more(self) -> bool:
        self._held, self._at = self._held[self._at :], 0
        read = self._file.read(max(_CHUNK, len(self._held)))  # twice as much each time that a value is longer
        self._held += self._decode(read, final=not read)
        return bool(read)
