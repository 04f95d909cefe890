"""What a run found, as tables for people and as JSON for machines; and how it stands to the goals."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple

from bench.figures import Cell, Cells, Figures
from bench.run import Result

FLOOR: Final = "postgres, row a commit"
DBOS: Final = ("dbos, tasks", "dbos, threads")
PEER_OF: Final = {"w1": "w1t", "w1t": "w1t", "w2": "w2"}
"""Under which workload DBOS does what a workload does: ten durable steps for W1 as well."""


class Goal(NamedTuple):
    """A figure to reach; `most` where less is better."""

    about: str
    wanted: float
    measured: float | None
    most: bool = False

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured <= self.wanted if self.most else self.measured >= self.wanted


def goals(result: Result) -> list[Goal]:
    """The goals, with what was measured."""
    cells = result.cells
    one, many = 1, 64
    w1, w1_one = _median(cells, "w1", many), _median(cells, "w1", one)
    w2_one = _median(cells, "w2", one)
    return [
        Goal("W1 executions/s at 64 clients", 8000, cells.rate("w1", "stepwell", many)),
        Goal("W1 steps/s at 64 clients against single-row commits/s", 4.0, _to_floor(cells, "w1", many)),
        Goal("W1 CPU seconds per 1000 steps, engine, API and Postgres", 0.012, _cpu_per_1000(w1, 10), most=True),
        Goal("W1 p50 in ms at one client", 0.7, w1_one.p50_ms if w1_one else None, most=True),
        Goal("W1 WAL bytes per step", 200, w1.wal_per_step if w1 else None, most=True),
        Goal("W1t executions/s at 64 clients", 800, cells.rate("w1t", "stepwell", many)),
        Goal("W1t against DBOS, 64 clients", 3.0, _to_dbos(cells, "w1t", many)),
        Goal("W2 executions/s at 64 clients", 7000, cells.rate("w2", "stepwell", many)),
        Goal("W2 p50 in ms at one client", 1.0, w2_one.p50_ms if w2_one else None, most=True),
        Goal("Celery target against plain Celery, 16 clients", 0.8, _to_celery(cells, 16)),
        Goal("W4 starts/s of waiting executions", 5000, result.waiting.get("starts_per_second")),
        Goal("W4 KiB of memory per waiting execution", 1.0, result.waiting.get("kib_per_execution"), most=True),
    ]


def as_json(result: Result) -> dict[str, object]:
    """Everything, for a file."""
    return {
        "version": 1,
        "machine": machine(result),
        "plan": {**asdict(result.plan), "database_url": result.plan.database_url is not None},
        "load_generator": result.tool,
        "cells": [cell.as_json() for cell in result.cells.all()],
        "ratios": [
            {
                "workload": cell.workload,
                "clients": cell.clients,
                "steps_to_floor": _to_floor(result.cells, cell.workload, cell.clients),
                "to_dbos": _to_dbos(result.cells, cell.workload, cell.clients),
            }
            for cell in result.cells.all()
            if cell.system == "stepwell"
        ],
        "waiting": result.waiting,
        "goals": [{**goal._asdict(), "met": goal.met} for goal in goals(result)],
    }


def machine(result: Result) -> dict[str, object]:
    """On what it was measured."""
    return {
        "cpus": os.cpu_count(),
        "model": _cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": result.postgres,
        "load_average": os.getloadavg()[0],
    }


def as_text(result: Result) -> str:
    """The tables."""
    about = machine(result)
    head = (
        f"{about['cpus']} CPUs ({about['model']}), {about['system']}, Python {about['python']}, PostgreSQL {about['postgres']}; "
        f"medians of {result.plan.rounds} interleaved rounds of {result.plan.seconds:g} s; client: {result.tool or 'none'}"
    )
    lines = [
        head,
        "",
        *_table(
            ("workload", "system", "clients", "/s", "±%", "p50 ms", "p99 ms", "server us", "worker us", "postgres us",
             "client us", "commits/s", "WAL B/step", "history B", "verified"),
            [_row(cell) for cell in sorted(result.cells.all(), key=_order)],
        ),
        "",
        *_table(
            ("workload", "clients", "steps/s : single-row commits/s", "executions/s : DBOS"),
            [
                (c.workload, str(c.clients), _number(_to_floor(result.cells, c.workload, c.clients)),
                 _number(_to_dbos(result.cells, c.workload, c.clients)))
                for c in sorted(result.cells.all(), key=_order)
                if c.system == "stepwell"
            ],
        ),
        "",
        *_table(
            ("goal", "wanted", "measured", "met"),
            [
                (goal.about, f"{'<=' if goal.most else '>='} {goal.wanted:g}", _number(goal.measured), _yes(goal.met))
                for goal in goals(result)
                if goal.measured is not None
            ],
        ),
    ]  # fmt: skip
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------- ratios


def _median(cells: Cells, workload: str, clients: int, system: str = "stepwell") -> Figures | None:
    cell = cells.get(workload, system, clients)
    return cell.median if cell is not None else None


def _to_floor(cells: Cells, workload: str, clients: int) -> float | None:
    cell, floor = cells.get(workload, "stepwell", clients), cells.rate("floor", FLOOR, clients)
    return cell.median.per_second * cell.steps / floor if cell is not None and floor else None


def _to_dbos(cells: Cells, workload: str, clients: int) -> float | None:
    ours = cells.rate(workload, "stepwell", clients)
    theirs = [cells.rate(PEER_OF.get(workload, workload), system, clients) for system in DBOS]
    best = max((rate for rate in theirs if rate), default=None)
    return ours / best if ours and best else None


def _to_celery(cells: Cells, clients: int) -> float | None:
    ours, theirs = cells.rate("w2c", "stepwell", clients), cells.rate("w2c", "plain celery", clients)
    return ours / theirs if ours and theirs else None


def _cpu_per_1000(figures: Figures | None, steps: int) -> float | None:
    if figures is None or figures.server_us is None or figures.postgres_us is None:
        return None
    return (figures.server_us + figures.postgres_us) / steps / 1000


# -------------------------------------------------------------------------------------------------------------- tables


def _row(cell: Cell) -> tuple[str, ...]:
    m = cell.median
    return (
        cell.workload, cell.system, str(cell.clients), _number(m.per_second), f"{50 * cell.spread:.0f}", _number(m.p50_ms),
        _number(m.p99_ms), _number(m.server_us), _number(m.worker_us), _number(m.postgres_us), _number(m.client_us),
        _number(m.commits_per_second), _number(m.wal_per_step), _number(m.history_bytes), str(m.verified),
    )  # fmt: skip


def _order(cell: Cell) -> tuple[str, str, int]:
    return cell.workload, cell.system, cell.clients


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    words = {0, 1} if len(head) > 4 else {0}

    def line(row: Sequence[str]) -> str:
        cells = [
            text.ljust(width) if column in words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *map(line, rows)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _yes(met: bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[met]


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
