"""What engine nodes ask of each other over the internal listener: one message for each thing only an owner can do.

Frames are those of `engine.messages` (length and msgpack). The listener speaks first with a nonce; both sides prove that they
know the cluster's secret before anything else is said.
"""

from __future__ import annotations

import hmac
from typing import Final, TypeAlias

import msgspec

from stepwell.engine.messages import Claim, Outcome


class PeerChallenge(msgspec.Struct, tag="challenge", array_like=True, frozen=True):
    """The listener's first word."""

    nonce: bytes


class PeerHello(msgspec.Struct, tag="hello", array_like=True, frozen=True):
    """The caller proves the secret and asks the same of the listener."""

    proof: bytes
    nonce: bytes


class PeerWelcome(msgspec.Struct, tag="welcome", array_like=True, frozen=True):
    """The listener's proof."""

    proof: bytes


class AskStart(msgspec.Struct, tag="start", array_like=True, frozen=True):
    """Start an execution (`ports.Runtime.start`)."""

    machine_key: int
    revision: int
    machine_arn: str
    machine_name: str
    role_arn: str
    name: str
    arn: str
    input: bytes
    trace_header: str | None = None
    version_arn: str | None = None
    alias_arn: str | None = None


class AskWait(msgspec.Struct, tag="wait", array_like=True, frozen=True):
    """Wait for an execution's end."""

    execution: bytes
    timeout_ms: int


class AskStop(msgspec.Struct, tag="stop", array_like=True, frozen=True):
    """Stop an execution."""

    execution: bytes
    error: str | None
    cause: str | None


class AskRedrive(msgspec.Struct, tag="redrive", array_like=True, frozen=True):
    """Redrive an execution."""

    execution: bytes
    token: str | None


class AskOutcome(msgspec.Struct, tag="outcome", array_like=True, frozen=True):
    """A task token's holder reports an outcome; `output` None means that it failed."""

    execution: bytes
    task: int
    secret: bytes
    output: bytes | None
    error: str | None = None
    cause: str | None = None


class AskHeartbeat(msgspec.Struct, tag="heartbeat", array_like=True, frozen=True):
    """A task token's holder is alive."""

    execution: bytes
    task: int
    secret: bytes


class AskClaim(msgspec.Struct, tag="claim", array_like=True, frozen=True):
    """A worker wants to run a task."""

    claim: Claim


class AskReport(msgspec.Struct, tag="report", array_like=True, frozen=True):
    """A worker reports the outcome of a claimed task. `output` is JSON text, which cannot stand in a message of msgpack as it is."""

    report: Outcome
    output: bytes | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> AskReport:
        """The report of an outcome."""
        if outcome.output is msgspec.UNSET:
            return cls(outcome)
        return cls(msgspec.structs.replace(outcome, output=msgspec.UNSET), bytes(outcome.output))

    @property
    def outcome(self) -> Outcome:
        """What was reported."""
        if self.output is None:
            return self.report
        return msgspec.structs.replace(self.report, output=msgspec.Raw(self.output))


class AskPerform(msgspec.Struct, tag="perform", array_like=True, frozen=True):
    """Have the task of a tested state carried out (`ports.TaskPerformer`)."""

    execution: bytes
    arn: str
    machine_name: str
    task: int
    state: str
    resource: str
    payload: bytes
    idempotency_key: str
    step_id: str
    claim_key: str
    timeout_seconds: int | None
    heartbeat_seconds: int | None
    reveal: bool


class Performed(msgspec.Struct, array_like=True, frozen=True):
    """What came of such a task (`output` None: an error), and what an HTTP Task sent and got."""

    output: bytes | None
    error: str | None = None
    cause: str | None = None
    request: dict[str, str] | None = None
    response: dict[str, str] | None = None


class AskExpress(msgspec.Struct, tag="express", array_like=True, frozen=True):
    """Run an Express execution: answered when it has ended where `wait`, else when its start is durable."""

    machine_key: int
    revision: int
    machine_arn: str
    machine_name: str
    role_arn: str
    name: str
    arn: str
    input: bytes
    wait: bool
    trace_header: str | None = None
    version_arn: str | None = None
    alias_arn: str | None = None


Ask: TypeAlias = (
    AskStart
    | AskWait
    | AskStop
    | AskRedrive
    | AskOutcome
    | AskHeartbeat
    | AskClaim
    | AskReport
    | AskPerform
    | AskExpress
)


class Question(msgspec.Struct, tag="question", array_like=True, frozen=True):
    """An ask and the number its answer will bear."""

    id: int
    ask: Ask


class Answer(msgspec.Struct, tag="answer", array_like=True, frozen=True):
    """The answer: `outcome` is a member of the enum the port's method answers with; `not_owner` sends the caller on.

    `at` is a moment (start, stop or redrive date); `name` and `arn` name a started execution; `data` is a `Performed`. From
    `stopped_at` on it is how an Express execution ended, with its status as `outcome`.
    """

    id: int
    outcome: str = ""
    at: int = 0
    reason: str | None = None
    name: str = ""
    arn: str = ""
    not_owner: bool = False
    unavailable: bool = False
    data: bytes = b""
    stopped_at: int = 0
    output: bytes | None = None
    error: str | None = None
    cause: str | None = None


PeerMessage: TypeAlias = PeerChallenge | PeerHello | PeerWelcome | Question | Answer

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[PeerMessage])


def encode(messages: list[PeerMessage]) -> bytes:
    """One frame."""
    body = _encoder.encode(messages)
    return len(body).to_bytes(4, "big") + body


def decode(body: bytes) -> list[PeerMessage]:
    """The messages of a frame's body."""
    return _decoder.decode(body)


def proof(secret: bytes, role: bytes, nonce: bytes) -> bytes:
    """What one side shows the other."""
    return hmac.digest(secret, b"stepwell " + role + b" " + nonce, "sha256")
