"""The measured server: a real `stepwell up` on the run's Postgres, set up over REST."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import executable
from typing import Final

from bench.children import Child
from bench.workloads import W4, WORKLOADS, Answered

ROLE: Final = "arn:aws:iam::000000000000:role/bench"
START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Stepwell:
    """A server that is ready; `pid` is its first process."""

    url: str
    pid: int

    def start_url(self, machine: str, answered: Answered) -> str:
        """Where executions of a machine are started."""
        return f"{self.url}/v1/state-machines/{machine}/executions{answered.value}"

    def express_succeeded(self) -> int:
        """How many Express executions have succeeded so far."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            told = answer.read().decode()
        found = re.search(r'^stepwell_express_ended_total\{status="SUCCEEDED"\} (\S+)$', told, re.MULTILINE)
        return int(float(found[1])) if found else 0

    def put(self, path: str, body: Mapping[str, object]) -> None:
        """Create or change a resource."""
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(), {"content-type": "application/json"}, method="PUT"
        )
        with urllib.request.urlopen(request, timeout=30):
            pass


@contextmanager
def stepwell(directory: Path, database_url: str, broker_url: str) -> Iterator[Stepwell]:
    """Run a server with the workloads' machines and function; Celery tasks are run by a worker beside it."""
    environment = {
        "STEPWELL_DATABASE_URL": database_url,
        "STEPWELL_BROKER_URL": broker_url,
        "STEPWELL_FUNCTION_MODULES": "bench.noops",
        "STEPWELL_LOG_LEVEL": "warning",
    }
    command = [executable, "-m", "stepwell.cli.main", "up", "--port", "0", "--workers", "0"]
    command += ["--data-dir", str(directory / "stepwell")]
    with Child(command, directory / "stepwell.log", environment) as child:
        said = child.line(START_SECONDS)
        server = Stepwell(said.split()[-1], child.pid)
        server.put("/v1/functions/noop", {"kind": "python", "target": "bench.noops:noop"})
        for workload in (*WORKLOADS.values(), W4):
            server.put(
                f"/v1/state-machines/{workload.name}",
                {
                    "definition": workload.definition,
                    "roleArn": ROLE,
                    "type": "EXPRESS" if workload.express else "STANDARD",
                },
            )
        yield server
