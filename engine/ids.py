"""Identifiers: how executions, tasks and ARNs are named, built and taken apart.

An execution's key in the store is derived from its ARN, so that every node finds an execution's row and shard from its name
alone, and two starts under one name meet at one row. It must not know the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final, NamedTuple, NewType
from uuid import UUID

ExecutionId = NewType("ExecutionId", bytes)
"""Sixteen bytes, the key of an execution."""

SHARD_COUNT: Final = 256


def execution_id(arn: str) -> ExecutionId:
    """The key of the execution with this ARN."""
    return ExecutionId(hashlib.blake2b(arn.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def as_uuid(id: bytes) -> UUID:
    """The key as Postgres keeps it."""
    return UUID(bytes=id)


def shard_of(id: bytes) -> int:
    """The shard an execution belongs to, 0..255."""
    return id[0]


class TaskToken(NamedTuple):
    """A task token taken apart. `secret` is what makes it an authority."""

    execution: ExecutionId
    task: int
    secret: bytes


def task_token(id: bytes, task: int, secret: bytes) -> str:
    """The text of a task token."""
    return base64.urlsafe_b64encode(id + task.to_bytes(4, "big") + secret).decode().rstrip("=")


def parse_task_token(text: str) -> TaskToken | None:
    """Take a token apart; None if it cannot be one of ours."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeError, ValueError):
        return None
    if len(raw) != 36:
        return None
    return TaskToken(ExecutionId(raw[:16]), int.from_bytes(raw[16:20], "big"), raw[20:])


def idempotency_key(id: bytes, entry: int, attempt: int) -> str:
    """The same for every delivery of one attempt; another for a retry or redrive. Tells nothing about the token."""
    return hashlib.blake2b(b"%d/%d" % (entry, attempt), digest_size=16, key=id).hexdigest()


def step_id(id: bytes, entry: int) -> str:
    """The same for all attempts at one entry of a state, over retries and redrives."""
    return hashlib.blake2b(b"%d" % entry, digest_size=16, key=id).hexdigest()


def claim_key(secret: bytes) -> str:
    """What a worker shows to claim a task and report on it; derived one-way from the token's secret."""
    return hashlib.blake2b(b"claim", digest_size=16, key=secret).hexdigest()


_EXPRESS_KEY: Final = "express"


def express_claim_key(node: str, secret: bytes) -> str:
    """The claim key of a task of an Express execution: it leads to the node that runs it (`node_tag`), which alone knows of it."""
    return f"{_EXPRESS_KEY}:{node}:{claim_key(secret)}"


def express_node_of(key: str) -> str | None:
    """The tag of the node that a claim key leads to; None if it is not of an Express execution."""
    kind, _, rest = key.partition(":")
    return rest.partition(":")[0] if kind == _EXPRESS_KEY else None


def node_tag(address: str | None) -> str:
    """A short name for the node that listens at an address. It tells a worker nothing of the address."""
    return hashlib.blake2b((address or "").encode(), digest_size=8).hexdigest()


class StatesArn(NamedTuple):
    """An ARN of the `states` service taken apart. `kind` is stateMachine, execution, express, activity or mapRun."""

    partition: str
    region: str
    account: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:states:{self.region}:{self.account}:{self.kind}:{self.name}"


_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):states:(?P<region>[a-z0-9-]*):(?P<account>[0-9]{12}):"
    r"(?P<kind>stateMachine|execution|express|activity|mapRun):(?P<name>.+)",
    re.DOTALL,
)


def parse_arn(text: str) -> StatesArn | None:
    """Take an ARN of the `states` service apart; None if it is none."""
    match = _ARN.fullmatch(text)
    return StatesArn(**match.groupdict()) if match else None


def execution_arn(machine_arn: str, name: str) -> str:
    """The ARN of a Standard execution. `machine_arn` may carry a version or alias, which an execution's ARN never does."""
    parts = machine_arn.split(":")
    parts[5] = "execution"
    return ":".join([*parts[:7], name])


def map_run_arn(machine_arn: str, label: str, id: UUID) -> str:
    """The ARN of a Map Run of the Map state with this label."""
    parts = machine_arn.split(":")
    parts[5] = "mapRun"
    return ":".join([*parts[:6], f"{parts[6]}/{label}", str(id)])


def child_arn(map_run: str, name: str, *, express: bool = False) -> str:
    """The ARN of a child execution of a Map Run. Of Express ones it tells the Map Run as well."""
    parts = map_run.split(":")
    parts[5] = "express" if express else "execution"
    return ":".join([*parts[: 8 if express else 7], name])


def express_child(arn: str) -> tuple[str, str] | None:
    """The ARN of the Map Run and the name of an Express child execution; None if this is not the ARN of one."""
    parts = arn.split(":")
    if len(parts) != 9 or parts[5] != "express" or "/" not in parts[6]:
        return None
    parts[5] = "mapRun"
    return ":".join(parts[:8]), parts[8]


def labelled_machine(arn: str) -> tuple[str, str]:
    """ARN and name of the state machine of a Map Run or of one of its child executions: that of the Map state's label."""
    parts = arn.split(":")
    parts[5] = "stateMachine"
    return ":".join(parts[:7]), parts[6]


def express_arn(machine_arn: str, name: str, uuid: UUID) -> str:
    """The ARN of an Express execution. Names need not be unique: each start has a `uuid` of its own."""
    parts = machine_arn.split(":")
    parts[5] = "express"
    return ":".join([*parts[:7], name, str(uuid)])


_FORBIDDEN_IN_NAMES: Final = re.compile(
    '[\\s<>{}\\[\\]?*"#%\\\\^|~`$&,;:/\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff\U0010ffff]'
)


def valid_name(name: str) -> bool:
    """Whether a state machine, execution or activity may bear this name (AWS's rule)."""
    return 1 <= len(name) <= 80 and _FORBIDDEN_IN_NAMES.search(name) is None
