"""Joining a run of several processes: who we are, from the environment, Slurm or a TPU's metadata, and JAX's start.

One process is the common case, for which nothing happens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import threading
from collections.abc import Mapping, MutableMapping
from types import FrameType

import jax
from jax._src.clusters import GceTpuCluster, GkeTpuCluster, SlurmCluster  # what jax.distributed itself asks
from jax._src.clusters.cloud_tpu_cluster import get_tpu_env_value

from ftcot_jax.errors import FtcotError, Preempted, UsageError
from ftcot_jax.progress import say
from ftcot_jax.training.hub import Hub
from ftcot_jax.training.processes import ALONE, Linked, Processes

VARIABLES = ("FTCOT_COORDINATOR", "FTCOT_PROCESSES", "FTCOT_PROCESS")
JOIN_SECONDS, SILENCE_SECONDS = 300, 20


@dataclasses.dataclass(frozen=True)
class Seat:
    """A process's place in the run.

    Attributes:
      host: where process 0 runs.
      port: where it is joined there.
      count: of processes.
      number: of this one.
      devices: numbers of this machine's devices that are this process's; None for all.
    """

    host: str
    port: int
    count: int
    number: int
    devices: list[int] | None = None


def join() -> Processes:
    """Joins the other processes, if there are others; to be called before JAX touches a device.

    Raises:
      UsageError: the environment contradicts itself.
      FtcotError: process 0 cannot be reached, or a scheduler's information cannot be read.
    """
    seat = find_seat(os.environ)
    return ALONE if seat is None else _join(seat)


def find_seat(environment: Mapping[str, str]) -> Seat | None:
    """This process's seat, or None if it is alone; errors as of `join`.

    The three variables come first, then Slurm, then a TPU's metadata. FTCOT_PROCESSES=1 says alone, whatever the
    scheduler says.
    """
    if environment.get("FTCOT_PROCESSES") == "1":
        return None
    if any(name in environment for name in VARIABLES):
        return _plain(environment)
    for cluster in (SlurmCluster, GkeTpuCluster, GceTpuCluster):
        try:
            if not cluster.is_env_present() or cluster.get_process_count() == 1:
                continue
            address = cluster.get_coordinator_address(timeout_secs=JOIN_SECONDS, override_coordinator_port=None)
            host, _, port = address.rpartition(":")
            count, number = cluster.get_process_count(), cluster.get_process_id()
        except Exception as error:  # no metadata server, no name service, or variables cut short
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise FtcotError(
                f"{cluster.name}: cannot tell which of several processes this is ({reason}); set "
                f"{', '.join(VARIABLES)}, or FTCOT_PROCESSES=1 to run alone"
            ) from error
        alone_here = re.fullmatch(r"1(\(x\d+\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
        local = None if alone_here else cluster.get_local_process_id()  # tasks of one machine have a GPU each
        return Seat(host, int(port), count, number, None if local is None else [local])
    return None


def find_slice(environment: Mapping[str, str]) -> tuple[int, int]:
    """Which of how many TPU slices this machine belongs to, by the environment or the TPU's metadata; (0, 1) elsewhere.

    Raises:
      FtcotError: it is a TPU's machine that cannot tell.
    """
    texts = [environment.get(f"MEGASCALE_{name}") for name in ("SLICE_ID", "NUM_SLICES")]
    try:
        if None in texts and GceTpuCluster.is_env_present():
            texts = [get_tpu_env_value(f"MEGASCALE_{name}") for name in ("SLICE_ID", "NUM_SLICES")]
        number, count = int(texts[0] or 0), int(texts[1] or 1)
    except Exception as error:  # no metadata server, or no numbers
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FtcotError(f"cannot tell which TPU slice this is ({reason}); say --worker i/n") from error
    return number, count


def part_slices(environment: MutableMapping[str, str]) -> None:
    """Lets every TPU slice train on its own, where JAX would join them: trials need no traffic between slices.

    To be called once the slice's number is known, and before JAX starts.
    """
    environment["MEGASCALE_NUM_SLICES"], environment["MEGASCALE_SLICE_ID"] = "1", "0"
    environment["MEGASCALE_COORDINATOR_ADDRESS"] = ""  # else the metadata's, which is another slice's


def _plain(environment: Mapping[str, str]) -> Seat:
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise UsageError(f"{', '.join(missing)} is not set; set all of {', '.join(VARIABLES)}, or none of them")
    address, count, number = (environment[name] for name in VARIABLES)
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"FTCOT_COORDINATOR is {address!r}; it must be HOST:PORT, where process 0 runs")
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"FTCOT_PROCESSES is {count!r}; it must be the number of processes")
    if not number.isdecimal() or int(number) >= int(count):
        raise UsageError(f"FTCOT_PROCESS is {number!r}; of {count} processes it must be one of 0 to {int(count) - 1}")
    return Seat(host.strip("[]"), int(port), int(count), int(number))


def _seconds(name: str, default: int) -> float:
    text = os.environ.get(name, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{name} is {text!r}; it must be a number of seconds above 0")
    return seconds


def _join(seat: Seat) -> Processes:
    join, silence = _seconds("FTCOT_JOIN_SECONDS", JOIN_SECONDS), _seconds("FTCOT_SILENCE_SECONDS", SILENCE_SECONDS)
    where = f"{seat.host}:{seat.port}"
    if seat.number == 0:
        try:
            Hub(seat.port, seat.count, join, silence, {"jax_port": _free_port()}, say)
        except OSError as error:
            raise FtcotError(
                f"process 0 cannot listen on port {seat.port} ({error.strerror}); choose another"
            ) from error
    try:
        processes = Linked(seat.number, seat.count, (seat.host, seat.port), join, silence)
    except OSError as error:
        raise FtcotError(
            f"process {seat.number}: no answer from process 0 at {where} for {join:g} s ({error.strerror or error}); "
            "start process 0 there, and let the others reach it"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    try:
        _start_jax(seat, processes)
    except RuntimeError as error:  # the kind of JAX's own: a port taken meanwhile, say
        processes.fail(f"process {seat.number}: JAX does not start: {str(error).splitlines()[0]}", 1)
    return processes


def _stop(number: int, frame: FrameType | None) -> None:
    """Outside the loop, which saves first, a preempted process has nothing to save, and the others are to know."""
    raise Preempted("stopped by SIGTERM; run the same command to go on")


def _start_jax(seat: Seat, processes: Linked) -> None:
    port = processes.note["jax_port"]
    # A process that loses JAX's own coordinator is ended by it with a stack trace; what must be said is said by us.
    address = ("127.0.0.1", port if seat.number == 0 else _relay((seat.host, port)))
    os.environ["no_grpc_proxy"] = "127.0.0.1"  # noqa: SIM112 (as gRPC spells it); a proxy does not lead here
    jax.config.update("jax_check_proxy_envs", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the loop
    jax.distributed.initialize(f"{address[0]}:{address[1]}", seat.count, seat.number, local_device_ids=seat.devices)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def _relay(target: tuple[str, int]) -> int:
    """Returns a port of this machine that leads to `target`, and does not close when `target` is gone."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = server.accept()
            try:
                far = socket.create_connection(target)
            except OSError:
                near.close()  # not there yet: JAX tries again
                continue
            threading.Thread(target=_copy, args=(near, far, True), daemon=True).start()
            threading.Thread(target=_copy, args=(far, near, False), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    port: int = server.getsockname()[1]
    return port


def _copy(source: socket.socket, sink: socket.socket, ends: bool) -> None:
    """Copies until the source closes, then closes the sink too if the end is to be passed on."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        if ends:
            sink.shutdown(socket.SHUT_RDWR)
