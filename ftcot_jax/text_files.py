"""Text, JSON and YAML files, read so that whatever is wrong with one is a line that names it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from ftcot_jax.errors import FtcotError, UsageError


class _Twice(ValueError):
    """A key is there twice: the parsers would keep the last and drop the rest without a word."""


def read_text(path: str | os.PathLike[str], what: str = "") -> str:
    """Reads a UTF-8 file, with or without a byte order mark.

    Args:
      path: of the file.
      what: the setting that names it, for the error, such as ``task.split``.

    Raises:
      UsageError: it cannot be read.
      FtcotError: it is not UTF-8.
    """
    where = f"{what}: {path}" if what else str(path)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FtcotError(f"{where}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{where}: cannot be read ({error.strerror})") from error


def parse_json(text: str, file: str, line: int = 1) -> Any:
    """Parses JSON text in which no object has a key twice.

    Args:
      text: the whole file, or a line of it.
      file: its name, for errors.
      line: the number of the text's first line in the file.

    Raises:
      FtcotError: it is not such a text.
    """
    try:
        return json_decoder().decode(text)
    except json.JSONDecodeError as error:
        raise FtcotError(f"{file}, line {line + error.lineno - 1}: not JSON ({error.msg})") from error
    except _Twice as error:
        raise FtcotError(f"{file}, from line {line}: {error}") from error
    except RecursionError as error:
        raise FtcotError(f"{file}, from line {line}: nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise FtcotError(f"{file}, from line {line}: {str(error).split(':')[0]}") from error


def json_decoder() -> json.JSONDecoder:
    """Decodes JSON; ValueError where an object has a key twice."""
    return json.JSONDecoder(object_pairs_hook=_object)


def read_json(path: str | os.PathLike[str], what: str = "") -> Any:
    """Reads a JSON file; errors as of `read_text` and `parse_json`."""
    return parse_json(read_text(path, what), str(path))


def write_json(path: str | os.PathLike[str], content: Any, indent: int = 1) -> None:
    """Writes a JSON file; a reader sees the old one or the new one, never half of it."""
    final = Path(path)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    partial.write_text(json_text(content, indent), encoding="utf-8")
    partial.replace(final)


def json_text(content: Any, indent: int | None = None) -> str:
    """JSON as readable as UTF-8 allows: half of a surrogate pair, which it does not, is escaped."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent)
    return text


def read_yaml(path: str | os.PathLike[str], what: str = "") -> dict[str, Any]:
    """Reads a YAML file that is a mapping, in which no mapping has a key twice.

    Raises:
      UsageError, FtcotError: as `read_text`, or it is no such file.
    """
    text = read_text(path, what)
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from error
    except _Twice as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        found = "empty" if content is None else f"a {type(content).__name__}"
        raise UsageError(f"{path}: must be a mapping of keys to values, and is {found}")
    return content


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        _no_key_twice(keys, f", line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        _no_key_twice([key for key, _ in pairs], "")
    return made


def _no_key_twice(keys: list[Any], where: str) -> None:
    twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
    if twice is not None:
        raise _Twice(f"'{twice}' is there twice{where}")
