"""What engine and workers tell each other: the task envelope, its outcome, claims and reports; and the calls of a function host.

Tasks of Celery travel as JSON, calls of a function host as frames of msgpack.

All that a worker's environment imports of the engine. It must not know anything else of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

PROTOCOL_VERSION: Final = 1
RESULTS_QUEUE: Final = "stepwell.results"
"""The broker queue on which Celery workers report outcomes."""
TASK_HEADER: Final = "stepwell"
"""The message header that makes a Celery message a Stepwell task; it holds a `TaskEnvelope`."""


class TaskEnvelope(msgspec.Struct, omit_defaults=True):
    """What a Stepwell task's message carries in its header, as JSON text; the task's input is the message's own arguments.

    `execution` (hex) and `task` name it; `key` is what a claim and a report must show. `idempotency_key` is the same for each
    delivery of this attempt; `step_id` for each attempt of this state entry.
    """

    execution: str
    task: int
    key: str
    name: str
    state: str
    idempotency_key: str
    step_id: str
    execution_arn: str = ""
    attempt: int = 0
    delivery: int = 1
    heartbeat_seconds: int | None = None
    timeout_seconds: int | None = None
    traceparent: str | None = None
    around: tuple[str, str] | None = None
    """Text the worker puts before and after the result's JSON text: the envelope of `lambda:invoke`."""
    holder: str | None = None
    """Set by the worker that claimed the task, for the copy of the message that its own retry publishes."""
    version: int = PROTOCOL_VERSION


class Outcome(msgspec.Struct, omit_defaults=True):
    """How a task ended: `output` (JSON text), or without one `error` and `cause`."""

    execution: str
    task: int
    key: str
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | None = None
    cause: str | None = None
    worker: str | None = None
    version: int = PROTOCOL_VERSION


class Claim(msgspec.Struct, omit_defaults=True):
    """A worker process asks for the right to run a task it has received."""

    execution: str
    task: int
    key: str
    worker: str
    """The incarnation of the worker process (a UUID made at its start)."""
    name: str | None = None
    holder: str | None = None
    """A worker that claimed the task before and handed it on, by a retry of Celery's: its claim passes to this one."""
    heartbeat: bool = False
    """The task is running already, under this very claim, and is alive."""
    version: int = PROTOCOL_VERSION


class ClaimAnswer(msgspec.Struct, omit_defaults=True):
    """`granted` is False when somebody else runs the task or it is closed: the copy is to be dropped."""

    granted: bool
    reason: str | None = None


class WorkerReport(msgspec.Struct, omit_defaults=True):
    """A worker process is alive; sent every `REPORT_SECONDS`."""

    worker: str
    host: str
    pid: int
    queues: list[str] = []
    running: list[str] = []
    """`execution/task` of the claims it holds."""
    ended: bool = False
    """The process is gone for good: what it held may be delivered again at once."""
    version: int = PROTOCOL_VERSION


REPORT_SECONDS: Final = 5
WORKER_LEASE_SECONDS: Final = 20


# --------------------------------------------------------------------------------------------------- the function host
#
# A host runs Python callables for an engine over a stream (Unix socket or TCP). Frames are a length (four bytes, big
# endian) and a msgpack array of messages, so that many travel in one write. The host speaks first:
#
#   host   Challenge(nonce)                   engine   Hello(proof of the shared secret over nonce, own nonce)
#   host   Welcome(proof over that nonce)     engine   Call..., Cancel...     host   Returned..., Raised...

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""A longer frame is not one of ours: the connection is closed."""

STRANGER_FRAME_BYTES: Final = 4096
STRANGER_SECONDS: Final = 10.0
"""How long a frame may be, and how long somebody may be connected, without showing that it knows the secret."""


class Challenge(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The first word of a host: prove that you know the secret."""

    nonce: bytes
    version: int = PROTOCOL_VERSION


class Hello(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """The engine's answer: `proof` of the host's nonce, and a nonce of its own."""

    proof: bytes
    nonce: bytes
    version: int = PROTOCOL_VERSION


class Welcome(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """The host accepts. `functions` are the names it has by itself (`@function`), beside `module:callable` targets."""

    proof: bytes
    pid: int
    functions: list[str] = []


class Call(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """Run a function: `function` is a name the host announced, or `module:callable`. `payload` is JSON text."""

    id: int
    function: str
    payload: bytes
    request_id: str = ""
    name: str = ""
    arn: str = ""
    execution: str = ""
    state: str = ""
    attempt: int = 0
    idempotency_key: str = ""
    step_id: str = ""
    timeout_seconds: int | None = None
    traceparent: str | None = None


class Cancel(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """Nobody waits for this call any more."""

    id: int


class Returned(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """A call's result, as JSON text."""

    id: int
    output: bytes


class Raised(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """A call's error: its name, and the cause as JSON text in the shape of a Lambda function's."""

    id: int
    error: str
    cause: str


ToHost: TypeAlias = Hello | Call | Cancel
FromHost: TypeAlias = Challenge | Welcome | Returned | Raised

_frames: Final = msgspec.msgpack.Encoder()


def frame(messages: Sequence[ToHost] | Sequence[FromHost]) -> bytes:
    """Bytes that carry these messages: one frame, or several where it would be too long."""
    body = _frames.encode(messages)
    if len(body) > MAX_FRAME_BYTES // 4 and len(messages) > 1:
        half = len(messages) // 2
        return frame(messages[:half]) + frame(messages[half:])
    return len(body).to_bytes(4, "big") + body


class FrameError(Exception):
    """What came over the stream is no frame of ours."""


class FrameReader:
    """Cuts a stream into frames. `feed` returns the bodies that are complete by now, in order."""

    __slots__ = ("_buffer", "most")

    def __init__(self, most: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self.most = most
        """How long a frame may be. `STRANGER_FRAME_BYTES` until the other side has shown that it knows the secret."""

    def feed(self, data: bytes) -> list[bytes]:
        """Add what was read. Raises `FrameError` for a length that cannot be."""
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(buffer) - start >= 4:
            length = int.from_bytes(buffer[start : start + 4], "big")
            if length > self.most:
                raise FrameError(f"A frame of {length} bytes was announced; at most {self.most} are accepted.")
            if len(buffer) - start - 4 < length:
                break
            bodies.append(bytes(buffer[start + 4 : start + 4 + length]))
            start += 4 + length
        if start:
            del buffer[:start]
        return bodies


def engine_proof(secret: bytes, nonce: bytes) -> bytes:
    """What an engine shows a host to prove that it knows the secret."""
    return hmac.digest(secret, b"stepwell engine " + nonce, "sha256")


def host_proof(secret: bytes, nonce: bytes) -> bytes:
    """What a host shows an engine."""
    return hmac.digest(secret, b"stepwell host " + nonce, "sha256")
