"""A PostgreSQL that a test may stop and start."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stepwell.cli.embedded.lifecycle import Liveness
from stepwell.cli.embedded.postgres import EmbeddedPostgres
from tests.fault.cluster import until
from tests.fixtures.postgres import migrate
from tests.support.embedded import server_place
from tests.support.sql import run_sql, with_database

DEADLINE: Final = 60.0


class OwnPostgres:
    """A durable server of one test's own, without the watchdog that would start it again."""

    def __init__(self, place: Path) -> None:
        self._service = EmbeddedPostgres(place)
        self._service.prepare()
        self._data, self._kept = place / "pgdata", place / "kept"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        run_sql(self._service.url(), "CREATE DATABASE faults")
        self.database = with_database(self._service.url(), "faults")
        migrate(self.database)

    def start(self) -> None:
        """Start it, and wait until it serves; after a crash it recovers first."""
        self._process = self._service.spawn()
        until(lambda: self._service.liveness() is Liveness.READY, "PostgreSQL")

    def stop(self, how: signal.Signals) -> None:
        """SIGINT ends all sessions, SIGQUIT is as good as a crash; returns when it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE)
            self._process = None

    def copy(self) -> None:
        """Keep what is on disk, which is whole while it is stopped."""
        subprocess.run(["cp", "-a", self._data, self._kept], check=True)

    def go_back(self) -> None:
        """Put back what was kept; it must be stopped."""
        shutil.rmtree(self._data)
        self._kept.rename(self._data)

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        self._service.clean_up()


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    with server_place() as place:
        server = OwnPostgres(place)
        try:
            yield server
        finally:
            server.close()
