"""DBOS on the run's Postgres: ten no-op steps, and one. Run in .venv-bench; reads one JSON question a line, answers with one.

Workflows are started inside this process, with no HTTP before them, which is in DBOS's favour: as functions on a thread for
each client, or as coroutines on uvloop, whichever the question asks for. It knows nothing of Stepwell.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import threading
import time
from typing import Any

import uvloop
from dbos import DBOS, DBOSConfig


@DBOS.step()
def step(value: int) -> int:
    return value


@DBOS.step()
async def step_async(value: int) -> int:
    return value


@DBOS.workflow()
def workflow(steps: int) -> int:
    for number in range(steps):
        step(number)
    return steps


@DBOS.workflow()
async def workflow_async(steps: int) -> int:
    for number in range(steps):
        await step_async(number)
    return steps


def in_threads(steps: int, clients: int, seconds: float) -> list[float]:
    """Latencies of workflows run by so many threads."""
    until = time.perf_counter() + seconds
    latencies: list[float] = []

    def client() -> None:
        while (begun := time.perf_counter()) < until:
            workflow(steps)
            latencies.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


async def in_tasks(steps: int, clients: int, seconds: float) -> list[float]:
    """Latencies of workflows run by so many asyncio tasks."""
    until = time.perf_counter() + seconds
    latencies: list[float] = []

    async def client() -> None:
        while (begun := time.perf_counter()) < until:
            await workflow_async(steps)
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(clients)))
    return latencies


async def answer(question: dict[str, Any]) -> dict[str, Any]:
    steps, clients, seconds = question["steps"], question["clients"], question["seconds"]
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    if question["mode"] == "threads":
        latencies = await asyncio.to_thread(in_threads, steps, clients, seconds)
    else:
        latencies = await in_tasks(steps, clients, seconds)
    elapsed = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    latencies.sort()
    return {
        "executions": len(latencies),
        "seconds": elapsed,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


async def main() -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": sys.argv[1],
        "sys_db_pool_size": 20,
        "max_executor_threads": 80,
        "log_level": "ERROR",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await answer(json.loads(line))), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    uvloop.run(main())
