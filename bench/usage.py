"""CPU time and memory of processes, read from /proc. Where there is none (macOS), every figure is None."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
WORKER_MARKS: Final = ("stepwell.workers.host", "celery", "worker")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table. `seconds` is its CPU time, that of children it has waited for included."""

    pid: int
    parent: int
    seconds: float
    command: str


def processes() -> dict[int, Process]:
    """The process table."""
    if not PROC.joinpath("self", "stat").exists():
        return {}
    tick = os.sysconf("SC_CLK_TCK")
    found: dict[int, Process] = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parts = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        seconds = sum(int(part) for part in parts[11:15]) / tick
        found[int(entry.name)] = Process(int(entry.name), int(parts[1]), seconds, command)
    return found


def tree(root: int, table: dict[int, Process]) -> list[Process]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    queue, out = [root], []
    while queue:
        pid = queue.pop()
        if pid in table:
            out.append(table[pid])
            queue += children.get(pid, [])
    return out


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used so far by the parts of a system."""

    server: float
    worker: float
    postgres: float


def usage(server: int | None, postgres: int | None) -> Usage | None:
    """The CPU time of a server, of the workers below it, and of Postgres, by the pids of their first processes."""
    table = processes()
    if not table:
        return None
    ours = tree(server, table) if server is not None else []
    workers = [one for one in ours[1:] if any(mark in one.command for mark in WORKER_MARKS)]
    theirs = tree(postgres, table) if postgres is not None else []
    return Usage(_sum(ours) - _sum(workers), _sum(workers), _sum(theirs))


def _sum(processes: Iterable[Process]) -> float:
    return sum(one.seconds for one in processes)


def resident_bytes(pid: int) -> int | None:
    """Memory of one process."""
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
