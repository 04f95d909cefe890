"""A Distributed Map over many items, on a real `stepwell up`: how long it takes, and how much memory the server holds meanwhile.

Run `python bench/micro/map_run.py [STANDARD|EXPRESS] [ITEMS ...]` (1000, 10000 and 100000 STANDARD ones by default). The items are rows of a CSV object in a
directory, each is a child execution of one Pass state, and the results are written to the directory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from bench.children import Child
from bench.database import postgres
from bench.usage import processes, tree

START_SECONDS: Final = 60.0
READER: Final = {
    "Resource": "arn:aws:states:::s3:getObject",
    "Parameters": {"Bucket": "bench", "Key.$": "$.key"},
    "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
}
WRITER: Final = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "bench", "Prefix": "out"}}


def definition(kind: str) -> dict[str, Any]:
    """A Map Run of children of this ExecutionType."""
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind},
        "StartAt": "P",
        "States": {"P": {"Type": "Pass", "End": True}},
    }
    state = {
        "Type": "Map", "MaxConcurrency": 1000, "ItemReader": READER, "ItemProcessor": processor, "ResultWriter": WRITER,
        "End": True,
    }  # fmt: skip
    return {"StartAt": "M", "States": {"M": state}}


def call(method: str, url: str, body: object = None) -> Any:
    """A request over REST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def resident(root: int) -> dict[int, float]:
    """Resident MiB of the server's engine process and its descendants, Postgres left out."""
    found: dict[int, float] = {}
    for process in tree(root, processes()):
        if "postgres" in process.command:
            continue
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), None)
        if line is not None:
            found[process.pid] = int(line.split()[1]) / 1024
    return found


def measure(url: str, pid: int, bucket: Path, items: int, kind: str) -> None:
    """One Map Run; prints a line."""
    key = f"{items}.csv"
    (bucket / key).write_text("n,text\n" + "".join(f"{number},item {number}\n" for number in range(items)))
    call("PUT", f"{url}/v1/state-machines/map", {"definition": definition(kind)})
    before = max(resident(pid).values(), default=0.0)
    began = time.monotonic()
    id = call("POST", f"{url}/v1/state-machines/map/executions", {"input": {"key": key}})["id"]
    peak = before
    shown: dict[str, Any] = {"status": "RUNNING"}
    while shown["status"] == "RUNNING":
        shown = call("GET", f"{url}/v1/executions/{id}?wait=0.2")
        peak = max(peak, *resident(pid).values())
    seconds = time.monotonic() - began
    print(
        f"{items:>8} items  {kind}  {shown['status']}  {seconds:8.2f} s  {items / seconds:8.0f} children/s"
        f"  memory {before:5.0f} MiB before, {peak:5.0f} MiB at most",
        flush=True,
    )


def main() -> None:
    """Measure each number of items, on one server."""
    kinds = [text for text in sys.argv[1:] if text in ("STANDARD", "EXPRESS")]
    counts = [int(text) for text in sys.argv[1:] if text not in kinds] or [1000, 10_000, 100_000]
    with tempfile.TemporaryDirectory(prefix="stepwell-map-run-") as name:
        Path(name).chmod(0o755)  # the embedded Postgres runs as another user where this is root's
        measure_all(Path(name), counts, kinds[-1] if kinds else "STANDARD")


def measure_all(directory: Path, counts: list[int], kind: str) -> None:
    """Start Postgres and the server, and measure each number of items."""
    with postgres(directory / "postgres", None) as server:
        bucket = directory / "bucket"
        bucket.mkdir()
        environment = {
            "STEPWELL_DATABASE_URL": server.database("stepwell"),
            "STEPWELL_BROKER_URL": "memory://",
            "STEPWELL_BUCKETS": f"bench={bucket}",
            "STEPWELL_LOG_LEVEL": "warning",
        }
        command = [sys.executable, "-m", "stepwell.cli.main", "up", "--port", "0", "--workers", "0"]
        command += ["--data-dir", str(directory / "data")]
        with Child(command, directory / "log", environment) as child:
            url = child.line(START_SECONDS).split()[-1]
            for count in counts:
                measure(url, child.pid, bucket, count, kind)


if __name__ == "__main__":
    main()
