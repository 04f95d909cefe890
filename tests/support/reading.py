"""A process that reads items and tells how much memory that took: `python -m tests.support.reading DIRECTORY READER`.

`READER` is a `ReaderSpec` as JSON text. What it prints: how many items there were, the error that ended them or null, and the most
memory in bytes that this process, and the largest of its children, has held.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.states_errors import StatesError
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.objects import FileBuckets

BUCKET = "items"


class Reading(NamedTuple):
    """What came of it; `own` and `child` in bytes."""

    items: int
    error: str | None
    own: int
    child: int


def read_apart(directory: Path, reader: ReaderSpec) -> Reading:
    """Read all items of a bucket `items`, which is a directory, in a process of its own."""
    asked = [sys.executable, "-m", __name__, str(directory), msgspec.json.encode(reader).decode()]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the reading process died ({done.returncode}): {done.stderr}"
    return Reading(*json.loads(done.stdout))


async def _main(directory: str, reader: str) -> Reading:
    items = ObjectItems(FileBuckets({BUCKET: Path(directory)}))
    count, error = 0, None
    try:
        async for _ in items.read(msgspec.json.decode(reader, type=ReaderSpec), None):
            count += 1
    except StatesError as caught:
        error = f"{caught.error}: {caught.cause}"
    await items.close()
    return Reading(count, error, _most_of_this_process(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def _most_of_this_process() -> int:
    """The most of its memory that has been filled. `getrusage` would count what its parent had when it was started."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_main(*sys.argv[1:]))))
