"""Calls a second through one function host: `python -m bench.micro.function_host [--seconds 3]`.

No-op functions, 1 to 256 calls in flight on one connection; with latencies, and with a payload of 10 KiB.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop

from stepwell.engine.messages import Call
from stepwell.engine.targets.function_hosts import FunctionHostPool


def noop(event: object) -> object:
    """What the host runs."""
    return event


async def async_noop(event: object) -> object:
    """The same, as a coroutine."""
    return event


async def measure(pool: FunctionHostPool, function: str, payload: bytes, in_flight: int, seconds: float) -> None:
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        while (began := time.perf_counter()) < until:
            await pool.call(Call(0, f"bench.micro.function_host:{function}", payload, request_id="r", name=function))
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    took = time.perf_counter() - began
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
    print(
        f"{function:12} {len(payload):6} B {in_flight:4} in flight: {len(latencies) / took:9,.0f} calls/s, "
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    )


async def main(seconds: float, processes: int) -> None:
    pool = FunctionHostPool(["bench.micro.function_host"], processes=processes)
    await pool.start()
    try:
        for function in ("noop", "async_noop"):
            for in_flight in (1, 16, 64, 256):
                await measure(pool, function, b'{"n":1}', in_flight, seconds)
        await measure(pool, "noop", b'{"text":"' + b"x" * 10_000 + b'"}', 64, seconds)
    finally:
        await pool.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    uvloop.run(main(options.seconds, options.processes))
