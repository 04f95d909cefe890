"""Helper processes: what may take too much or crash is done in a process of its own, within limits that the system holds it to.

A helper speaks over a socket, which is its standard input: frames of bytes, each behind four bytes of length. It knows no settings
and no secrets. This module must not know what a helper does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import stepwell

LENGTH_BYTES: Final = 4
OWN_BYTES: Final = 64 << 20
"""What of its memory a process itself is allowed for: memory is never used without a gap."""
SPARE_SECONDS: Final = 2
"""Processor time beyond what a piece of work may take, after which the system ends a process whose engine does not."""
_ROOT: Final = str(Path(stepwell.__file__).resolve().parent.parent)


# ---------------------------------------------------------------------------------------------------- in the engine


def start(
    module: str, *arguments: str, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start `python -m module` with a socket to it. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**_environment(), **environment},
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    return process, ours


def _environment() -> dict[str, str]:
    """Nothing of ours but where the code is: no settings, no secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return {**kept, "PYTHONPATH": _ROOT, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


# ------------------------------------------------------------------------------------------------------ both sides


def send(channel: socket.socket, frame: bytes) -> None:
    """Send a frame."""
    channel.sendall(len(frame).to_bytes(LENGTH_BYTES))
    channel.sendall(frame)


def receive(channel: socket.socket) -> bytes | None:
    """The next frame; None if the other side has gone."""
    head = _receive_exactly(channel, LENGTH_BYTES)
    return None if head is None else _receive_exactly(channel, int.from_bytes(head))


def _receive_exactly(channel: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        part = channel.recv(min(size - len(received), 1 << 20))
        if not part:
            return None
        received += part
    return bytes(received)


# --------------------------------------------------------------------------------------------------- in the helper


def own_channel() -> socket.socket:
    """The socket to the engine; the standard streams lead nowhere from now on."""
    channel = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a descriptor for what a library might print
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
    return channel


def limit_memory(memory: int) -> None:
    """Bound the address space. Where the system has no such limit, the other limits have to do."""
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + memory - OWN_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit_processor(seconds: float) -> None:
    """Bound the processor time from now on."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + SPARE_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
