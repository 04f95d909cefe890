"""Plain Celery: a client that sends a task and waits for its result, over and over, on a thread for each client.

`python -m bench.peers.celery_peer CLIENTS SECONDS` prints one JSON object. The worker runs elsewhere.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from bench.noops import TASK, celery_app


def measure(clients: int, seconds: float) -> dict[str, float]:
    """Round trips of the no-op task."""
    app = celery_app()
    task = app.tasks[TASK]
    until = 0.0
    latencies: list[float] = []
    started = threading.Barrier(clients + 1)

    def client() -> None:
        task.delay({"a": 1}).get(timeout=60)  # opens the connections of this thread
        started.wait()
        while (begun := time.perf_counter()) < until:
            task.delay({"a": 1}).get(timeout=60)
            latencies.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    begun = time.perf_counter()
    until = begun + seconds + 60
    started.wait()
    begun = time.perf_counter()
    until = begun + seconds
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begun
    latencies.sort()
    return {
        "executions": len(latencies),
        "seconds": elapsed,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
    }


if __name__ == "__main__":
    json.dump(measure(int(sys.argv[1]), float(sys.argv[2])), sys.stdout)
