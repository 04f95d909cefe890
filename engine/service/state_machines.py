"""State machines: creating, changing, reading, listing and deleting them, and checking definitions.

Rules are those of the Step Functions API. It must not know HTTP, nor how a definition is executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.validate import validate
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.jsontypes import Json, read, write_text
from stepwell.engine.ports import MachineRecord, MachineStore, Page, Revision
from stepwell.engine.service import checks, paging, refusals
from stepwell.engine.service.context import RequestContext, ServiceSettings
from stepwell.engine.service.refusals import ErrorCode, ServiceError

DEFAULT_LOGGING: Json = {"level": "OFF", "includeExecutionData": False}
DEFAULT_TRACING: Json = {"enabled": False}
DEFAULT_ENCRYPTION: Json = {"type": "AWS_OWNED_KEY"}
_THREAD_BYTES = 65_536
"""Longer definitions are checked in a thread, so that the event loop goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """The parts of a state machine beside its definition; None is "as it is", or the default for a new one."""

    logging: Json = None
    tracing: Json = None
    encryption: Json = None


class StateMachines:
    """The use-cases of state machines."""

    def __init__(self, store: MachineStore, clock: Clock, seeds: SeedSource, settings: ServiceSettings) -> None:
        self._store = store
        self._clock = clock
        self._seeds = seeds
        self._settings = settings
        self._cache: dict[str, tuple[int, MachineRecord]] = {}

    async def create(
        self,
        context: RequestContext,
        *,
        name: str,
        definition: str,
        role_arn: str,
        type: str = "STANDARD",
        config: MachineConfig | None = None,
        description: str | None = None,
    ) -> MachineRecord:
        """Create a state machine, or answer the one that is there if nothing but role differs (CreateStateMachine)."""
        checks.name_of(name)
        checks.no_nul(role_arn, "roleArn")
        checks.no_nul(description, "description")
        config = config or MachineConfig()
        self._check_type(type)
        logging, encryption = _logging_text(config.logging), _encryption_text(config.encryption)
        await self._check_definition(definition, type)
        now = self._clock.now_ms()
        record = MachineRecord(
            key=0,
            arn=context.arn(checks.MACHINE, name),
            name=name,
            type=type,
            definition=definition,
            role_arn=role_arn,
            revision=1,
            revision_id=None,
            created_at=now,
            updated_at=now,
            logging=logging,
            tracing=_text(config.tracing),
            encryption=encryption,
            description=description,
        )
        created = await self._store.create(record)
        if created is not None:
            self._cache.pop(record.arn, None)
            return created
        existing = await self._store.get(record.arn)
        if existing is None:
            raise refusals.machine_deleting(record.arn)
        if not _same_machine(existing, record):
            raise refusals.machine_already_exists(record.arn)
        return existing

    async def update(
        self,
        arn: str,
        *,
        definition: str | None = None,
        role_arn: str | None = None,
        config: MachineConfig | None = None,
    ) -> MachineRecord:
        """Make a new revision (UpdateStateMachine). Executions that run keep theirs."""
        checks.unlabeled(checks.arn_of(arn, checks.MACHINE))
        checks.no_nul(role_arn, "roleArn")
        config = config or MachineConfig()
        if definition is None and role_arn is None and config == MachineConfig():
            raise ServiceError(
                ErrorCode.MISSING_REQUIRED_PARAMETER,
                "Either the definition, the role ARN, the LoggingConfiguration, or the TracingConfiguration must be"
                " specified",
            )
        logging, encryption = _logging_text(config.logging), _encryption_text(config.encryption)
        existing = await self.describe(arn)
        if definition is not None:
            await self._check_definition(definition, existing.type)
        updated = await self._store.update(
            arn,
            definition=definition,
            role_arn=role_arn,
            logging=logging,
            tracing=_text(config.tracing),
            encryption=encryption,
            revision_id=str(Entropy(self._seeds.seed()).uuid4()),
            now=self._clock.now_ms(),
        )
        self._cache.pop(arn, None)
        if updated is None:
            raise refusals.machine_does_not_exist(arn)
        return updated

    async def put(
        self,
        context: RequestContext,
        *,
        name: str,
        definition: str,
        role_arn: str,
        type: str = "STANDARD",
        config: MachineConfig | None = None,
        description: str | None = None,
    ) -> tuple[MachineRecord, bool]:
        """Create a state machine or make it equal to this; whether it was created. Doing it twice changes nothing."""
        arn = context.arn(checks.MACHINE, checks.name_of(name))
        existing = await self._store.get(arn)
        if existing is None:
            created = await self.create(
                context,
                name=name,
                definition=definition,
                role_arn=role_arn,
                type=type,
                config=config,
                description=description,
            )
            return created, True
        if existing.type != type:
            raise refusals.invalid("The type of a state machine cannot be changed; delete it first.", pointer="/type")
        wanted = config or MachineConfig()
        changed = MachineConfig(
            logging=_changed(existing.logging, _logging_text(wanted.logging), wanted.logging),
            tracing=_changed(existing.tracing, _text(wanted.tracing), wanted.tracing),
            encryption=_changed(existing.encryption, _encryption_text(wanted.encryption), wanted.encryption),
        )
        new_definition = definition if definition != existing.definition else None
        new_role = role_arn if role_arn != existing.role_arn else None
        if new_definition is None and new_role is None and changed == MachineConfig():
            return existing, False
        return await self.update(arn, definition=new_definition, role_arn=new_role, config=changed), False

    async def describe(self, arn: str) -> MachineRecord:
        """The state machine (DescribeStateMachine)."""
        checks.arn_of(arn, checks.MACHINE)
        record = await self._store.get(arn)
        if record is None:
            raise refusals.machine_does_not_exist(arn)
        return record

    async def resolve(self, context: RequestContext, name_or_arn: str) -> MachineRecord:
        """The state machine of an ARN, or of a name in the caller's region and account, else the only one so named."""
        return await self.for_start(await self.arn_named(context, name_or_arn))

    async def arn_named(self, context: RequestContext, name_or_arn: str) -> str:
        """The ARN of the machine meant by a name or an ARN."""
        if name_or_arn.startswith("arn:"):
            return name_or_arn
        arn = context.arn(checks.MACHINE, name_or_arn)
        if arn in self._cache or await self._store.get(arn) is not None:
            return arn
        record = await self._store.by_name(name_or_arn)
        if record is None:
            raise refusals.machine_does_not_exist(arn)
        return record.arn

    async def for_start(self, arn: str) -> MachineRecord:
        """The state machine as a start sees it: at most `machine_cache_ms` old."""
        now = self._clock.now_ms()
        cached = self._cache.get(arn)
        if cached is not None and cached[0] > now:
            return cached[1]
        checks.unlabeled(checks.arn_of(arn, checks.MACHINE))
        record = await self.describe(arn)
        if record.status != "ACTIVE":
            raise refusals.machine_deleting(arn)
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[arn] = (now + self._settings.machine_cache_ms, record)
        return record

    async def is_express(self, arn: str) -> bool:
        """Whether there is such a state machine, and it is an Express one."""
        record = await self._store.get(arn)
        return record is not None and record.type == "EXPRESS"

    async def revision(self, machine_key: int, revision: int) -> Revision | None:
        """One revision of a definition."""
        return await self._store.revision(machine_key, revision)

    async def list(self, max_results: int | None = None, token: str | None = None) -> Page[MachineRecord]:
        """Machines by creation date; the page's `next` is a token (ListStateMachines)."""
        now = self._clock.now_ms()
        page = await self._store.list(paging.page_size(max_results), paging.read_token("machines", token, now))
        return Page(page.items, paging.make_token("machines", page.next, now))

    async def delete(self, arn: str) -> None:
        """Delete a state machine; that there is none is no error (DeleteStateMachine)."""
        checks.unlabeled(checks.arn_of(arn, checks.MACHINE))
        await self._store.delete(arn)
        self._cache.pop(arn, None)

    async def check(self, definition: str, type: str = "STANDARD") -> Sequence[Diagnostic]:
        """Every finding about a definition (ValidateStateMachineDefinition)."""
        find = partial(validate, definition, target=self._settings.target, machine_type=type, runnable=True)
        return await asyncio.to_thread(find) if len(definition) > _THREAD_BYTES else find()

    def _check_type(self, type: str) -> None:
        if type not in self._settings.machine_types:
            supported = " or ".join(sorted(self._settings.machine_types))
            raise ServiceError(
                ErrorCode.STATE_MACHINE_TYPE_NOT_SUPPORTED,
                f"State machines of type {type} are not supported; use {supported}",
                pointer="/type",
            )

    async def _check_definition(self, definition: str, type: str) -> None:
        try:
            if len(definition) > _THREAD_BYTES:
                await asyncio.to_thread(parse_definition, definition, machine_type=type)
            else:
                parse_definition(definition, machine_type=type)
        except DefinitionError as error:
            raise refusals.invalid_definition(error.diagnostics) from None


def config_of(text: str | None, default: Json) -> Json:
    """A stored configuration, with what it leaves out filled in."""
    if text is None:
        return default
    value = read(text)
    if isinstance(value, dict) and isinstance(default, dict):
        return {**default, **value}
    return value


def _text(value: Json) -> str | None:
    return None if value is None else write_text(value)


def _logging_text(value: Json) -> str | None:
    if isinstance(value, dict) and value.get("level", "OFF") != "OFF":
        destinations = value.get("destinations")
        if not isinstance(destinations, list) or len(destinations) != 1:
            raise ServiceError(
                ErrorCode.INVALID_LOGGING_CONFIGURATION,
                "Invalid Logging Configuration: Must specify exactly one Log Destination.",
                pointer="/loggingConfiguration",
            )
    return _text(value)


def _encryption_text(value: Json) -> str | None:
    if isinstance(value, dict) and value.get("type") != "AWS_OWNED_KEY":
        raise ServiceError(
            ErrorCode.INVALID_ENCRYPTION_CONFIGURATION,
            "Invalid Encryption Configuration: only the type AWS_OWNED_KEY is supported",
            pointer="/encryptionConfiguration",
        )
    return _text(value)


def _changed(stored: str | None, wanted: str | None, value: Json) -> Json:
    return None if wanted is None or wanted == stored else value


def _same_machine(one: MachineRecord, other: MachineRecord) -> bool:
    """Whether a second creation is the first one again: everything but the role counts, definitions as text."""
    return (
        (one.definition, one.type) == (other.definition, other.type)
        and config_of(one.logging, DEFAULT_LOGGING) == config_of(other.logging, DEFAULT_LOGGING)
        and config_of(one.tracing, DEFAULT_TRACING) == config_of(other.tracing, DEFAULT_TRACING)
        and config_of(one.encryption, DEFAULT_ENCRYPTION) == config_of(other.encryption, DEFAULT_ENCRYPTION)
    )
