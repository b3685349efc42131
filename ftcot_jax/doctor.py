"""What ftcot sees of this machine, and what looks wrong with it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from ftcot_jax.accelerator import accelerator
from ftcot_jax.errors import FtcotError
from ftcot_jax.platform_flags import FLAGS, VARIABLE
from ftcot_jax.tasks.fetch import cache_folder
from ftcot_jax.versions import TESTED_PAIRS

DEVICE_SECONDS = 180  # on a pod, jax waits for the other machines' processes
LEAST_MEMORY, LEAST_DISK = 2 << 30, 2 << 30  # bytes; the package and a small student need about that
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "libtpu", "jax-cuda13-plugin")
KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY")

# Asked in a process of its own: a wrong flag ends it, and a machine that is not there keeps it waiting.
PROBE = """
import json, jax
devices = jax.local_devices()
jax.block_until_ready([jax.device_put(1.0, device) + 1 for device in devices])
stats = [device.memory_stats() or {} for device in devices]
print("ftcot-devices " + json.dumps({
    "platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices), "all": jax.device_count(),
    "bytes": [(one.get("bytes_in_use"), one.get("bytes_limit")) for one in stats]}))
"""


class Finding(NamedTuple):
    """A line of the doctor's: what was looked at, what was seen, and, if that is wrong, what to do."""

    what: str
    seen: str
    wrong: str = ""


def doctor(out: str | None) -> str:
    """Looks at everything and returns the report.

    Args:
      out: output folder, local or ``gs://``; tried by writing a small file and deleting it.

    Raises:
      FtcotError: something looks wrong; the report is printed before.
    """
    findings = list(examine(out, os.environ))
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{'WRONG' if finding.wrong else 'ok':5}  {finding.what:{width}}  {finding.seen}")
        if finding.wrong:
            lines.append(f"{'':5}  {'':{width}}  -> {finding.wrong}")
    wrong = [finding.what for finding in findings if finding.wrong]
    if wrong:
        print("\n".join(lines), flush=True)
        raise FtcotError(f"{len(wrong)} of {len(findings)} things look wrong: {', '.join(wrong)}")
    return "\n".join(lines)


def examine(out: str | None, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    yield Finding("machine", f"{socket.gethostname()}, {platform.machine()}, Python {platform.python_version()}")
    yield _versions()
    yield from _flags(environment)
    yield _processes(environment)
    yield _keys(environment)
    yield _memory()
    yield from _disks(out)
    if out is not None:
        yield _access("output", out)
    yield _access("compile cache", environment.get("JAX_COMPILATION_CACHE_DIR") or str(cache_folder() / "compiled"))
    yield _students(environment)
    yield _devices(environment)


def _versions() -> Finding:
    found = {name: version for name in PACKAGES if (version := _version(name))}
    seen = ", ".join(f"{name} {version}" for name, version in found.items())
    if found["jax"] != found["jaxlib"]:
        return Finding("versions", seen, "jax and jaxlib differ: pip install -c constraints.txt '.[EXTRA]' again")
    asked = _libtpu_of_jax()
    if "libtpu" in found and not f"{found['libtpu']}.".startswith(asked):
        return Finding("versions", seen, f"jax {found['jax']} asks for libtpu {asked}*: pip install '.[tpu]' again")
    series = ".".join(found["jax"].split(".")[:2])
    oldest = ".".join(map(str, TESTED_PAIRS[tuple(map(int, series.split(".")))]))  # others end the import
    return Finding("versions", f"{seen}; a tested pair (jax {series} with flax {oldest} or newer)")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _libtpu_of_jax() -> str:
    """What the version of libtpu must begin with, by jax's own extra `tpu`; empty if that does not say."""
    lines = "\n".join(importlib.metadata.requires("jax") or [])
    found = re.search(r"^libtpu *== *([\d.]+?)\.?\*", lines, flags=re.M)
    return f"{found[1]}." if found else ""


def _flags(environment: Mapping[str, str]) -> Iterator[Finding]:
    for variable in (*dict.fromkeys(VARIABLE.values()), "JAX_PLATFORMS"):
        yield Finding(variable, environment.get(variable) or "not set")
    if accelerator() == "gpu":
        missing = [flag for flag in FLAGS["gpu"] if flag.name not in environment.get("XLA_FLAGS", "")]
        if missing:
            names = ", ".join(f"--{flag.name}={flag.value} ({flag.reason})" for flag in missing)
            yield Finding("flags left out", names)


def _processes(environment: Mapping[str, str]) -> Finding:
    from ftcot_jax.training.cluster import find_seat  # brings jax

    try:
        seat = find_seat(environment)
    except FtcotError as error:
        return Finding("processes", "several, it seems", str(error))
    if seat is None:
        return Finding("processes", "this one alone")
    return Finding("processes", f"number {seat.number} of {seat.count}, joined at {seat.host}:{seat.port}")


def _keys(environment: Mapping[str, str]) -> Finding:
    return Finding("keys", ", ".join(f"{name} {'set' if environment.get(name) else 'not set'}" for name in KEYS))


def _memory() -> Finding:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return Finding("memory", "unknown (no /proc/meminfo)")
    free, total = (1024 * int(re.findall(rf"{name}: *(\d+) kB", text)[0]) for name in ("MemAvailable", "MemTotal"))
    wrong = "end other programs, or take a larger machine" if free < LEAST_MEMORY else ""
    return Finding("memory", f"{_size(free)} free of {_size(total)}", wrong)


def _disks(out: str | None) -> Iterator[Finding]:
    folders = {"home": Path.home(), "temporary": Path(os.environ.get("TMPDIR", "/tmp")), "cache": cache_folder()}
    if out is not None and "://" not in out:
        folders["output"] = Path(out)
    for name, folder in folders.items():
        there = next((part for part in (folder, *folder.resolve().parents) if part.exists()), Path("/"))
        free = shutil.disk_usage(there).free
        wrong = "free some, or choose another disk" if free < LEAST_DISK else ""
        yield Finding(f"disk of {name}", f"{_size(free)} free at {folder}", wrong)


def _access(what: str, folder: str) -> Finding:
    """Writes a file of a MiB, reads it back, deletes it: a full disk may still take a line."""
    began, data = time.monotonic(), os.urandom(1 << 20)
    probe = None
    try:
        probe = epath.Path(folder) / f".ftcot-doctor-{socket.gethostname()}-{os.getpid()}"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(data)
        right = probe.read_bytes() == data
        probe.unlink()
    except Exception as error:  # each file system has errors of its own
        with contextlib.suppress(Exception):
            if probe is not None:
                probe.unlink(missing_ok=True)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return Finding(what, f"{folder}: {type(error).__name__}: {reason}", _remedy(what, folder))
    if not right:
        return Finding(what, f"{folder}: what was written is not what is read", "choose another folder")
    return Finding(what, f"{folder}: written, read and deleted in {time.monotonic() - began:.2f} s")


def _remedy(what: str, folder: str) -> str:
    if what == "compile cache":
        return "every start compiles anew until this folder can be written; JAX_COMPILATION_CACHE_DIR names another"
    if "://" not in folder:
        return "choose a folder you may write to, on a disk with room"
    return (
        "the account of this machine must be allowed to write there (roles/storage.objectAdmin on the bucket; at home: "
        "gcloud auth application-default login), and the package that reads this kind of address be installed"
    )


def _students(environment: Mapping[str, str]) -> Finding:
    """Where students named by their hub name are kept; asked of nobody, so that it works without a network."""
    home = environment.get("HF_HOME") or str(Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    folder = Path(environment.get("HF_HUB_CACHE") or str(Path(home) / "hub")).expanduser()
    try:
        count = len(list(folder.glob("models--*")))
        above = next(part for part in (folder, *folder.parents) if part.exists())
        seen = f"{count} students of the hub in {folder}"
        writable = os.access(above, os.W_OK)
    except OSError as error:
        return Finding("student cache", f"{folder}: {error.strerror}", "HF_HUB_CACHE names another folder")
    offline = environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline:
        wrong = "" if count else "HF_HUB_OFFLINE forbids to fetch one: give student.checkpoint as a folder, or unset it"
        return Finding("student cache", f"{seen}, and HF_HUB_OFFLINE is set", wrong)
    wrong = "" if writable else "none can be fetched into it: HF_HUB_CACHE names another folder"
    return Finding("student cache", seen, wrong)


def _devices(environment: Mapping[str, str]) -> Finding:
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], env=dict(environment), capture_output=True, text=True, timeout=DEVICE_SECONDS
        )
    except subprocess.TimeoutExpired:
        advice = "on a pod, start it on all workers at once; else another process may hold the devices"
        return Finding("devices", f"jax did not start within {DEVICE_SECONDS} s", advice)
    answer = next((line for line in done.stdout.splitlines() if line.startswith("ftcot-devices ")), None)
    if answer is None:
        return Finding("devices", "jax does not start", _why(done.stderr, done.returncode))
    seen: dict[str, Any] = json.loads(answer.partition(" ")[2])
    limits = [limit for _, limit in seen["bytes"] if limit]
    used = [used for used, limit in seen["bytes"] if limit]
    room = f", {_size(limits[0])} each, at most {_size(max(used))} in use" if limits else ""
    text = f"{seen['count']} x {seen['kind']} ({seen['platform']}){room}"
    text += f"; {seen['all']} over all machines" if seen["all"] != seen["count"] else ""
    has, forced = accelerator(), environment.get("JAX_PLATFORMS", "")
    if has != "cpu" and seen["platform"] == "cpu" and "cpu" not in forced:
        extra = {"tpu": "tpu", "gpu": "cuda"}[has]
        return Finding(
            "devices", text, f"this machine has a {has.upper()} that jax does not use: pip install '.[{extra}]'"
        )
    return Finding("devices", text)


def _why(stderr: str, code: int) -> str:
    """The line that tells, of what jax said before it ended."""
    unknown = re.search(r"Unknown (?:command line )?flags? .*", stderr)
    if unknown:
        return f"{unknown[0][:200]}: take it out of XLA_FLAGS or LIBTPU_INIT_ARGS"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = lines[-1][:200] if lines else f"it ended with code {code} and said nothing"
    return f"{last} (is another process using the devices?)"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
