"""What is measured, as plain records, and medians of them over rounds. It must not know how anything is measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw. Times in seconds; `cpu_seconds` is its own."""

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    tool: str


@dataclass(frozen=True, slots=True)
class Figures:
    """One cell of the table in one round. What a system does not have is None."""

    per_second: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    server_us: float | None = None
    """CPU of the measured system's own process, microseconds per execution."""
    worker_us: float | None = None
    postgres_us: float | None = None
    client_us: float | None = None
    commits_per_second: float | None = None
    wal_per_step: float | None = None
    history_bytes: float | None = None
    """Bytes of history kept for one execution."""
    executions: int = 0
    verified: int = 0
    """Executions that the database says have succeeded."""


MEASURES: Final = tuple(one.name for one in fields(Figures))


def median(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure by itself; of `executions` and `verified` the sums."""
    values: dict[str, float | None] = {}
    for name in MEASURES:
        present = [value for value in (getattr(one, name) for one in rounds) if value is not None]
        values[name] = statistics.median(present) if present else None
    values["executions"] = sum(one.executions for one in rounds)
    values["verified"] = sum(one.verified for one in rounds)
    return Figures(**values)  # type: ignore[arg-type]


@dataclass(slots=True)
class Cell:
    """One system under one workload with one number of clients, over all rounds. `steps` is per execution."""

    workload: str
    system: str
    clients: int
    steps: int
    rounds: list[Figures] = field(default_factory=list)

    @property
    def median(self) -> Figures:
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """The distance of the fastest and the slowest round, as a part of the median rate."""
        rates = [one.per_second for one in self.rounds]
        return (max(rates) - min(rates)) / statistics.median(rates) if min(rates) > 0 else 0.0

    def as_json(self) -> dict[str, object]:
        """The cell as the JSON file holds it."""
        return {
            "workload": self.workload,
            "system": self.system,
            "clients": self.clients,
            "steps": self.steps,
            "median": asdict(self.median),
            "spread": self.spread,
            "rounds": [asdict(one) for one in self.rounds],
        }


class Cells:
    """All cells of a run, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, int], Cell] = {}

    def add(self, workload: str, system: str, clients: int, steps: int, figures: Figures) -> None:
        """Add what one round measured."""
        cell = self._cells.setdefault((workload, system, clients), Cell(workload, system, clients, steps))
        cell.rounds.append(figures)

    def get(self, workload: str, system: str, clients: int) -> Cell | None:
        """A cell, if it was measured."""
        return self._cells.get((workload, system, clients))

    def rate(self, workload: str, system: str, clients: int) -> float | None:
        """The median rate of a cell, if it was measured."""
        cell = self.get(workload, system, clients)
        return cell.median.per_second if cell is not None else None

    def all(self) -> Iterable[Cell]:
        """All cells."""
        return self._cells.values()
