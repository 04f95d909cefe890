"""All use-cases in one bundle, built from the ports by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stepwell.engine.clock import Clock, SeedSource
from stepwell.engine.map_ports import MapRunReader
from stepwell.engine.ports import (
    ActivityStore,
    ApiKeyStore,
    ConnectionStore,
    DeadLetterStore,
    Evaluate,
    ExecutionReader,
    ExpressReader,
    FunctionStore,
    MachineStore,
    Runtime,
    TaskPerformer,
)
from stepwell.engine.secretbox import SecretBox
from stepwell.engine.service.activities import Activities
from stepwell.engine.service.api_keys import ApiKeys
from stepwell.engine.service.connections import Connections
from stepwell.engine.service.context import ServiceSettings
from stepwell.engine.service.dead_letters import DeadLetters
from stepwell.engine.service.executions import Executions
from stepwell.engine.service.express_children import ExpressChildren
from stepwell.engine.service.functions import Functions
from stepwell.engine.service.map_runs import MapRuns
from stepwell.engine.service.state_machines import StateMachines
from stepwell.engine.service.state_tests import StateTests
from stepwell.engine.service.tasks import Tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the composition root puts in.

    `evaluate` carries out expressions that need much. `ready` answers None when requests can be served, else what is missing.
    """

    machines: MachineStore
    executions: ExecutionReader
    map_runs: MapRunReader
    express: ExpressReader
    dead_letters: DeadLetterStore
    activities: ActivityStore
    functions: FunctionStore
    connections: ConnectionStore
    api_keys: ApiKeyStore
    runtime: Runtime
    performer: TaskPerformer
    evaluate: Evaluate
    clock: Clock
    seeds: SeedSource
    box: SecretBox
    random_bytes: Callable[[int], bytes]
    ready: Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use-cases."""

    settings: ServiceSettings
    clock: Clock
    seeds: SeedSource
    state_machines: StateMachines
    executions: Executions
    map_runs: MapRuns
    tasks: Tasks
    state_tests: StateTests
    activities: Activities
    dead_letters: DeadLetters
    functions: Functions
    connections: Connections
    api_keys: ApiKeys
    ready: Callable[[], Awaitable[str | None]]


def build_services(ports: Ports, settings: ServiceSettings | None = None) -> Services:
    """Make the use-cases from the ports."""
    settings = settings or ServiceSettings()
    machines = StateMachines(ports.machines, ports.clock, ports.seeds, settings)
    children = ExpressChildren(ports.map_runs, ports.clock)
    executions = Executions(machines, ports.executions, ports.express, children, ports.runtime, ports.clock)
    return Services(
        settings=settings,
        clock=ports.clock,
        seeds=ports.seeds,
        state_machines=machines,
        executions=executions,
        map_runs=MapRuns(ports.map_runs, executions, children, ports.clock),
        tasks=Tasks(ports.runtime),
        state_tests=StateTests(
            ports.performer, ports.clock, ports.seeds, ports.evaluate, reveals=settings.reveal_secrets
        ),
        activities=Activities(ports.activities, ports.runtime, ports.clock),
        dead_letters=DeadLetters(ports.dead_letters, executions, ports.clock),
        functions=Functions(ports.functions, ports.clock),
        connections=Connections(ports.connections, ports.clock, ports.seeds, ports.box),
        api_keys=ApiKeys(ports.api_keys, ports.clock, ports.box, ports.random_bytes),
        ready=ports.ready,
    )
