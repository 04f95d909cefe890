"""The helper process: evaluates expressions one after another for the engine that started it, within limits of its own.

`python -m stepwell.engine.runtime.expression_process SECONDS BYTES`: standard input is a socket; on it come evaluations and go
outcomes, each as JSON behind four bytes of length. An evaluation may take `SECONDS`, and the process fill `BYTES` of memory,
its own included. It must be quick and must not know settings, the store or the network.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import Final

import msgspec

from stepwell.engine.query.jsonata.evaluation import FULL, Evaluation, Outcome, carry_out

LENGTH_BYTES: Final = 4
OWN_BYTES: Final = 64 << 20
"""What of its memory the process itself is allowed for: a third of that in fact, but memory is never used without a gap."""
SPARE_SECONDS: Final = 2
"""Processor time beyond what an evaluation may take, after which the system ends a process whose engine does not."""
TOO_MUCH: Final = Outcome(code="U1001", message="The evaluation ran out of memory", limit=True)


def main(seconds: float, memory: int) -> None:
    """Answer until the engine closes the socket."""
    channel = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a descriptor for what a library might print
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
    decoder = msgspec.json.Decoder(Evaluation)
    # A little less than the engine waits, so that the library's own limit strikes first and the process lives on.
    budget = msgspec.structs.replace(FULL, seconds=0.9 * seconds)
    send(channel, msgspec.json.encode(carry_out(Evaluation('"ready"', "null"), budget)))
    _limit_memory(memory)
    while (frame := receive(channel)) is not None:
        _limit_processor(seconds)
        try:
            answer = msgspec.json.encode(carry_out(decoder.decode(frame), budget))
        except MemoryError:
            answer = msgspec.json.encode(TOO_MUCH)
        send(channel, answer)


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


def _limit_memory(memory: int) -> None:
    """Bound the address space. Where the system has no such limit, the other limits have to do."""
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + memory - OWN_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit_processor(seconds: float) -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + SPARE_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
