"""What a folder of records holds, who made it, and whether its files are still as they were written."""

from __future__ import annotations

import hashlib
from typing import Any

from etils import epath
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftcot_jax.errors import FtcotError

FILE = "records.json"
_BYTES = 1 << 22  # hashed at a time


class Made(BaseModel):
    """What records were made with; two folders that agree in it hold the same records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokenizer: str = Field(description="Digest of the tokenizer and its end token.")
    template: dict[str, Any] = Field(description="Name and forms of the template.")


class Written(BaseModel):
    """One record file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(description="Bytes.")
    sha256: str = Field(description="Of its bytes.")


class RecordManifest(BaseModel):
    """The manifest beside the record files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    made: Made
    records: int
    prompt_tokens: int
    label_tokens: int
    files: dict[str, Written]


def write_manifest(folder: epath.Path, made: Made, records: int, prompt_tokens: int, label_tokens: int) -> None:
    """Writes the manifest of the record files that are in `folder` now."""
    files = {_name(folder, path): _written(path) for path in _files(folder)}
    manifest = RecordManifest(
        made=made, records=records, prompt_tokens=prompt_tokens, label_tokens=label_tokens, files=files
    )
    (folder / FILE).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def read_manifest(folder: epath.Path, made: Made | None = None) -> RecordManifest:
    """Reads a folder's manifest and holds its files against it.

    Args:
      folder: with record files in it.
      made: what the records should have been made with; None to take whatever they were.

    Raises:
      FtcotError: there is none; or a file is missing, foreign, or not as it was written; or the records were made
        with another tokenizer or template.
    """
    try:
        manifest = RecordManifest.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FtcotError(f"{folder / FILE}: not there, so {folder} is no folder of records; run again") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise FtcotError(f"{folder / FILE}: damaged; delete {folder} and run again") from error
    if made is not None and made != manifest.made:
        part = "tokenizer" if made.tokenizer != manifest.made.tokenizer else "template"
        raise FtcotError(f"{folder}: its records were made with another {part}; delete it and run again")
    found = {_name(folder, path): path for path in _files(folder)}
    for name in sorted(manifest.files.keys() | found.keys()):
        if name not in found:
            problem = "is missing"
        elif name not in manifest.files:
            problem = "is foreign: the manifest does not have it"
        else:
            size, expected = found[name].stat().length, manifest.files[name]
            if size != expected.size:
                problem = f"is {'truncated' if size < expected.size else 'too long'}: {size} bytes, not {expected.size}"
            elif _written(found[name]) != expected:
                problem = f"is damaged: its SHA-256 is not {expected.sha256[:16]}..."
            else:
                continue
        raise FtcotError(f"{folder / name} {problem}; delete {folder} and run again")
    return manifest


def record_files(folder: epath.Path) -> list[epath.Path]:
    """The record files under a folder, in order."""
    return sorted(folder.glob("*/*/*.array_record*"))  # NAME/VERSION/, as TFDS lays them out


def column_file(folder: epath.Path, name: str) -> epath.Path:
    """The file of one of the table's arrays, in numpy's format."""
    return folder / "table" / f"{name}.npy"


def _files(folder: epath.Path) -> list[epath.Path]:
    return record_files(folder) + sorted(column_file(folder, "x").parent.glob("*"))


def _name(folder: epath.Path, path: epath.Path) -> str:
    return path.relative_to(folder).as_posix()


def _written(path: epath.Path) -> Written:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as opened:
        while content := opened.read(_BYTES):
            digest.update(content)
            size += len(content)
    return Written(size=size, sha256=digest.hexdigest())
