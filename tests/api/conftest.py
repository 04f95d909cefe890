"""The API over the memory store and the real interpreter: called directly (httpx), or served for boto3."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from stepwell.api.app import ApiSettings, create_app
from stepwell.api.front import Front
from stepwell.engine.runtime.expressions import carry_out_in_thread
from stepwell.engine.secretbox import SecretBox
from stepwell.engine.service.context import ServiceSettings
from stepwell.engine.service.services import Ports, Services, build_services
from stepwell.engine.store.memory import MemoryDatabase, MemoryDeadLetters, MemoryExecutions, MemoryMachines
from stepwell.engine.store.memory_express import MemoryExpress
from stepwell.engine.store.memory_map_runs import MemoryMapRuns
from stepwell.engine.store.memory_registries import (
    MemoryActivities,
    MemoryApiKeys,
    MemoryConnections,
    MemoryFunctions,
)
from stepwell.engine.store.memory_runtime import MemoryRuntimeStore
from tests.support.memory_runtime import MemoryRuntime
from tests.support.performers import ScriptedPerformer
from tests.support.served import served

ROLE = "arn:aws:iam::000000000000:role/test"


class MovableClock:
    """Real time, moved on by hand."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return int(time.time() * 1000) + self.offset_ms

    def monotonic(self) -> float:
        return time.monotonic()


class RandomSeeds:
    def seed(self) -> int:
        return int.from_bytes(os.urandom(16), "big")


@dataclass
class Stack:
    """Everything a test may want to reach."""

    services: Services
    runtime: MemoryRuntime
    database: MemoryDatabase
    clock: MovableClock
    performer: ScriptedPerformer
    missing: str | None = None
    map_runs: MemoryRuntimeStore = field(default_factory=lambda: MemoryRuntimeStore(MovableClock()))

    def app(self, settings: ApiSettings | None = None) -> Front:
        return create_app(self.services, settings)

    def client(self, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=options.pop("app", None) or self.app(), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080", **options)


def build_stack(settings: ServiceSettings | None = None) -> Stack:
    database, clock, seeds = MemoryDatabase(), MovableClock(), RandomSeeds()
    runtime = MemoryRuntime(database, clock, seeds)
    map_runs = MemoryRuntimeStore(clock, database)
    performer = ScriptedPerformer()

    async def ready() -> str | None:
        return made.missing

    ports = Ports(
        machines=MemoryMachines(database),
        executions=MemoryExecutions(database),
        map_runs=MemoryMapRuns(map_runs, clock),
        express=MemoryExpress(database, clock, {}),
        dead_letters=MemoryDeadLetters(database),
        activities=MemoryActivities(database),
        functions=MemoryFunctions(database),
        connections=MemoryConnections(database),
        api_keys=MemoryApiKeys(database),
        runtime=runtime,
        performer=performer,
        evaluate=carry_out_in_thread,
        clock=clock,
        seeds=seeds,
        box=SecretBox(bytes(32)),
        random_bytes=os.urandom,
        ready=ready,
    )
    made = Stack(
        build_services(ports, settings or ServiceSettings()), runtime, database, clock, performer, map_runs=map_runs
    )
    return made


@pytest.fixture
def stack() -> Stack:
    return build_stack()


@pytest.fixture
async def rest(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with stack.client() as client:
        yield client


def aws(url: str, *, key: str = "test", secret: str = "test", region: str = "us-east-1") -> Any:
    config = Config(retries={"total_max_attempts": 1}, inject_host_prefix=False)
    return boto3.client(
        "stepfunctions",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=config,
    )


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    with served(stack.app()) as url:
        yield url


@pytest.fixture
def sfn(url: str) -> Any:
    return aws(url)
