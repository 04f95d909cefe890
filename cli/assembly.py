"""The composition root: the one place that knows the concrete store, targets, clock and chance, and puts a node together.

`open_node` makes everything one process needs to run executions or to serve requests, and takes it apart again in the opposite
order. Servers, child processes and the HTTP listener are `cli.serving`'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from stepwell.cli.system import SystemClock, SystemSeeds, random_bytes
from stepwell.engine import telemetry
from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.clock import Clock
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.machine.events import TaskFailed
from stepwell.engine.ports import FunctionRecord, Target, TargetResult, TaskRequest
from stepwell.engine.runtime.engine import Engine, EngineOptions
from stepwell.engine.runtime.expressions import Expressions
from stepwell.engine.runtime.peers import Listener
from stepwell.engine.runtime.requests import Requests
from stepwell.engine.secretbox import SecretBox, load_box
from stepwell.engine.service.context import ServiceSettings
from stepwell.engine.service.services import Ports, Services, build_services
from stepwell.engine.settings import Settings
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.store import migrate
from stepwell.engine.store.activities import PostgresActivities
from stepwell.engine.store.api_keys import PostgresApiKeys
from stepwell.engine.store.connections import PostgresConnections
from stepwell.engine.store.database_clock import DatabaseClock
from stepwell.engine.store.dead_letters import PostgresDeadLetters
from stepwell.engine.store.executions import PostgresExecutions
from stepwell.engine.store.express import PostgresExpress
from stepwell.engine.store.functions import PostgresFunctions
from stepwell.engine.store.machines import PostgresMachines
from stepwell.engine.store.map_runs import PostgresMapRuns, PostgresMapRunStore
from stepwell.engine.store.pool import connect, create_pool, driver_url
from stepwell.engine.store.runtime_store import PostgresRuntimeStore
from stepwell.engine.store.settings_check import check_settings, cluster_secret
from stepwell.engine.store.upkeep import Upkeep
from stepwell.engine.targets.broker import Publisher
from stepwell.engine.targets.celery import CeleryTarget
from stepwell.engine.targets.celery_results import ResultsConsumer
from stepwell.engine.targets.functions import FunctionTarget, function_pool
from stepwell.engine.targets.http import HttpSettings, http_target
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.objects import Buckets, FileBuckets
from stepwell.engine.targets.registry import TargetRegistry
from stepwell.engine.targets.s3_objects import S3Buckets
from stepwell.engine.targets.services import ServiceTarget

log = logging.getLogger(__name__)

BROKER_MISSING = "this engine has no broker. Set STEPWELL_BROKER_URL"


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is open. `engine.ready` says whether it can take requests."""

    engine: Engine
    services: Services
    metrics: telemetry.Metrics
    ready: Callable[[], Awaitable[str | None]]


class Unserved:
    """The target of tasks that nobody here carries out: each fails at once and says why."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def perform(self, request: TaskRequest) -> TargetResult:
        return TaskFailed(request.task, ErrorName.RUNTIME, f"{request.resource.text} cannot be called: {self._why}.")

    async def close(self) -> None:
        """There is nothing to close."""


class HeardFunctions(PostgresFunctions):
    """The function registry, of whose changes the target here hears at once; other nodes see them some seconds later."""

    def __init__(self, pool: Any, heard: Callable[[str], None]) -> None:
        super().__init__(pool)
        self._heard = heard

    async def put(self, record: FunctionRecord) -> None:
        await super().put(record)
        self._heard(record.name)

    async def delete(self, name: str) -> bool:
        gone = await super().delete(name)
        self._heard(name)
        return gone


@asynccontextmanager
async def open_node(settings: Settings, *, owns_shards: bool = True) -> AsyncIterator[Node]:
    """Put a node together over the database and broker that the settings name, and open it.

    With `owns_shards` it runs executions; without, it only takes requests. Raises `ConfigurationError` for a database that is
    not fit for it.
    """
    url = needed(settings.database_url)
    clock, seeds, metrics = DatabaseClock(SystemClock()), SystemSeeds(), telemetry.Metrics()
    async with AsyncExitStack() as life:
        secret = await _checked(url)
        pool = await create_pool(url, min_size=2, max_size=settings.pool_size)
        life.push_async_callback(_close_pool, pool)
        await clock.start(pool)
        life.push_async_callback(clock.close)
        store = PostgresRuntimeStore(driver_url(url), pool, clock, notify=settings.notify)
        life.push_async_callback(store.close)
        express = PostgresExpress(pool, clock)
        machines = PostgresMachines(pool, (settings.region, settings.account))
        box = secret_box(settings)
        targets, function_target = await _targets(life, settings, pool, box, clock, performs=owns_shards)
        listener = Listener(secret, lambda ask, number: requests.answer(ask, number))  # noqa: PLW0108 -- it comes later
        address: str | None = None
        if owns_shards:
            address = reachable(await listener.open(settings.listen_host, settings.listen_port), settings.advertise)
            life.push_async_callback(listener.close)
        expressions = Expressions()
        life.push_async_callback(expressions.close)
        items = object_items(settings)
        life.push_async_callback(items.close)
        engine = Engine(
            store=store,
            express=express,
            machines=machines,
            targets=targets,
            clock=clock,
            seeds=seeds,
            metrics=metrics,
            options=EngineOptions(
                node=UUID(bytes=random_bytes(16), version=4),
                region=settings.region,
                address=address,
                lease_ttl_ms=int(settings.lease_seconds * 1000),
                owns_shards=owns_shards,
                express_bytes=settings.express_bytes,
                express_drain_seconds=settings.express_drain_seconds,
                express_keep=settings.express_retention_hours > 0,
                reveal_secrets=settings.reveal_secrets,
            ),
            listen=store.listen if settings.notify else None,
            map_store=PostgresMapRunStore(store, pool, clock),
            items=items,
            evaluate=expressions.carry_out,
        )
        requests = Requests(engine, store, clock, seeds, secret=secret)
        life.callback(requests.close)
        await engine.open()
        life.push_async_callback(engine.close)
        if owns_shards:
            await _start_helpers(life, settings, requests, url, clock)

        async def ready() -> str | None:
            if not engine.ready:
                return "This node has no lease on the database at the moment."
            try:
                async with asyncio.timeout(5):
                    await pool.fetchval("SELECT 1")
            except Exception as error:  # noqa: BLE001 -- any reason is one
                return f"The database does not answer ({type(error).__name__})."
            return None

        ports = Ports(
            machines=machines,
            executions=PostgresExecutions(pool),
            map_runs=PostgresMapRuns(pool, clock),
            express=express,
            dead_letters=PostgresDeadLetters(pool),
            activities=PostgresActivities(pool),
            functions=HeardFunctions(pool, function_target.forget),
            connections=PostgresConnections(pool),
            api_keys=PostgresApiKeys(pool),
            runtime=requests,
            performer=requests,
            evaluate=expressions.carry_out,
            clock=clock,
            seeds=seeds,
            box=box,
            random_bytes=random_bytes,
            ready=ready,
        )
        told = ServiceSettings(region=settings.region, account=settings.account, reveal_secrets=settings.reveal_secrets)
        services = build_services(ports, told)
        yield Node(engine, services, metrics, ready)


def reachable(bound: str, advertised: str | None) -> str:
    """Where other nodes find a node that listens on `bound`: as it is told, else there, or under this machine's name."""
    host, _, port = bound.rpartition(":")
    if advertised is not None:
        return advertised
    return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "::") else bound  # noqa: S104


def needed(database_url: str | None) -> str:
    """The database's URL. Raises `ConfigurationError` where there is none."""
    if database_url is None:
        raise ConfigurationError(
            "No database is named. Set STEPWELL_DATABASE_URL, or use `stepwell up`, which brings one along."
        )
    return database_url


def object_items(settings: Settings) -> ObjectItems:
    """Where Map Runs read items and write results."""
    named = (bucket.partition("=") for bucket in settings.buckets)
    files = FileBuckets({name: Path(directory).expanduser() for name, _, directory in named})
    return ObjectItems(Buckets(files, S3Buckets(region=settings.region, endpoint_url=settings.s3_endpoint_url)))


def secret_box(settings: Settings) -> SecretBox:
    """What seals stored secrets: by the key of the settings, else by the key file of the data directory."""
    return load_box(settings.secret_key, settings.data_dir)


async def upgrade_database(url: str) -> str:
    """Bring the database to this version's schema; returns its revision."""
    return await migrate.upgrade(driver_url(url))


async def _checked(url: str) -> bytes:
    """Refuse a database that is not fit; the secret that its nodes share."""
    connection = await connect(url)
    try:
        await check_settings(connection)
        return await cluster_secret(connection)
    finally:
        await connection.close()


async def _close_pool(pool: Any) -> None:
    try:
        async with asyncio.timeout(10):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _targets(
    life: AsyncExitStack, settings: Settings, pool: Any, box: SecretBox, clock: Clock, *, performs: bool
) -> tuple[TargetRegistry, FunctionTarget]:
    session = HttpSettings.of(settings).session()
    celery: CeleryTarget | None = None
    if settings.broker_url is not None:
        celery = CeleryTarget(Publisher(settings.broker_url), default_queue=settings.default_queue)
    hosts = function_pool(settings)
    if performs:
        await hosts.start()
        life.push_async_callback(hosts.close)
    functions = FunctionTarget(PostgresFunctions(pool), hosts, session, clock, celery=celery, url=settings.function_url)
    targets: dict[TargetKind, Target] = {
        TargetKind.FUNCTION: functions,
        TargetKind.CELERY: celery or Unserved(BROKER_MISSING),
        TargetKind.HTTP: http_target(HttpSettings.of(settings), PostgresConnections(pool), box, clock, session),
        TargetKind.SERVICE: ServiceTarget(),
    }
    registry = TargetRegistry(targets)
    life.push_async_callback(registry.close)
    return registry, functions


async def _start_helpers(life: AsyncExitStack, settings: Settings, requests: Requests, url: str, clock: Clock) -> None:
    """What a node does beside running executions: reading Celery's outcomes, the upkeep of the database."""
    if settings.broker_url is not None:
        results = ResultsConsumer(settings.broker_url, requests.report_outcome)
        await results.start()
        life.push_async_callback(results.close)
    upkeep = Upkeep(url, clock, settings.retention_days, settings.express_retention_hours)
    upkeep.start()
    life.push_async_callback(upkeep.close)


class TextFormatter(logging.Formatter):
    """A line for people; what was given as `extra` stands behind the message."""

    _KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's name
        extra = "".join(f" {name}={value}" for name, value in vars(record).items() if name not in self._KNOWN)
        return super().formatMessage(record) + extra


def configure_logging(settings: Settings) -> None:
    """Log to stderr as the settings say."""
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(telemetry.JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for noisy in ("alembic", "uvicorn", "uvicorn.error", "amqp", "kombu", "asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def load_settings(**overrides: object) -> Settings:
    """The settings of this process: the environment's, and the command's options (None: not given) before them."""
    from dataclasses import replace

    given = {name: value for name, value in overrides.items() if value is not None}
    return replace(Settings.load(os.environ), **given)  # type: ignore[arg-type]
