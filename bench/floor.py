"""The floor: how fast this Postgres makes rows durable at all, one row a commit and 500 rows a commit.

Run as a process of its own, `python -m bench.floor URL CLIENTS SECONDS MODE`, which prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any, Final

import asyncpg
import uvloop

ROW: Final = b"x" * 200
BATCH: Final = 500


async def measure(url: str, clients: int, seconds: float, mode: str) -> dict[str, Any]:
    """Rows and commits in `seconds` over so many connections; `mode` is `single` or `batch`."""
    setup = await asyncpg.connect(url)
    await setup.execute(
        "CREATE TABLE IF NOT EXISTS floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data bytea)"
    )
    await setup.execute("TRUNCATE floor")
    connections = [await asyncpg.connect(url) for _ in range(clients)]
    latencies: list[float] = []
    begun = time.perf_counter()
    until = begun + seconds

    async def work(connection: asyncpg.Connection[Any]) -> None:
        rows = [ROW] * BATCH
        single = await connection.prepare("INSERT INTO floor (data) VALUES ($1)")
        many = await connection.prepare("INSERT INTO floor (data) SELECT * FROM unnest($1::bytea[])")
        while (at := time.perf_counter()) < until:
            if mode == "single":
                await single.fetch(ROW)
            else:
                await many.fetch(rows)
            latencies.append(time.perf_counter() - at)

    await asyncio.gather(*map(work, connections))
    elapsed = time.perf_counter() - begun
    rows = await setup.fetchval("SELECT count(*) FROM floor")
    for connection in [*connections, setup]:
        await connection.close()
    latencies.sort()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "commits": len(latencies),
        "rows": rows,
        "seconds": elapsed,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


if __name__ == "__main__":
    url, clients, seconds, mode = sys.argv[1:5]
    json.dump(uvloop.run(measure(url, int(clients), float(seconds), mode)), sys.stdout)
