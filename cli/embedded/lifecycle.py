"""How a client uses an embedded server: attach to it if it runs, have it started if not, and let go.

Three locks in the data directory carry the whole agreement; nobody trusts a process id.

- `users.lock`: every client holds it shared for as long as it uses the server. The watchdog waits for it exclusively;
  having it, it knows that the last client is gone, and newcomers wait until the server has stopped.
- `start.lock`: held exclusively by the one client that looks whether the server runs and starts a watchdog if not.
- `watchdog.lock`: held by the watchdog for as long as it looks after the server. The client that starts a watchdog
  takes the lock first and hands it down, so there is no moment in which two can be started.

What is particular to a server is in the subclasses of `EmbeddedService`, whose second half is called by the watchdog.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

import stepwell
from stepwell.cli.embedded.locks import FileLock
from stepwell.cli.embedded.server_user import ServerUser, server_environment
from stepwell.engine.errors import ConfigurationError

READY = "ready"
POLL_SECONDS = 0.02
LOG_TAIL_LINES = 15
LOG_KEPT_BYTES = 10_000_000


class Liveness(Enum):
    """What a connection to the server's socket says. A process id says nothing and is never asked."""

    READY = "ready"
    BUSY = "busy"
    """It answers, but serves nobody yet or nobody any more; or it is too slow to answer."""
    ABSENT = "absent"


@dataclass(slots=True)
class Handle:
    """The use of a running server by this process. The server stops when the last handle on it is released or dies."""

    url: str
    _users: FileLock = field(repr=False)

    def release(self) -> None:
        """Let go of the server. Harmless when done twice."""
        self._users.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class EmbeddedService(ABC):
    """A server with its data in `data_dir`, shared by all processes that name the same directory.

    `start_timeout` is how many seconds a client waits for the server to serve; recovery after a crash counts.
    """

    kind: ClassVar[str]
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]]
    """How the server is stopped: signals from gentle to final, and the seconds each is given."""

    def __init__(self, data_dir: Path | str, *, start_timeout: float = 120.0) -> None:
        self.data_dir = Path(data_dir).expanduser().absolute()
        self.start_timeout = start_timeout

    @property
    def log_path(self) -> Path:
        """What the server and its watchdog say."""
        return self.data_dir / f"{self.kind}.log"

    @property
    def users_lock_path(self) -> Path:
        return self.data_dir / "users.lock"

    @property
    def watchdog_lock_path(self) -> Path:
        """Whoever gets this lock exclusively knows that no watchdog, hence no server of its, is left."""
        return self.data_dir / "watchdog.lock"

    def acquire(self) -> Handle:
        """Use the server, starting it if need be; returns when it serves. Any number of processes may do so at once.

        Raises ConfigurationError, with what the server said, when it cannot be started.
        """
        try:
            self._make_data_dir()
            users = FileLock.at(self.users_lock_path)
        except OSError as error:
            raise ConfigurationError(f"The data directory {self.data_dir} cannot be used: {error.strerror}.") from error
        try:
            users.shared()
            with FileLock.at(self.data_dir / "start.lock") as start:
                start.exclusive()
                self._ensure_running()
            return Handle(self.url(), users)
        except BaseException:
            users.close()
            raise

    def _make_data_dir(self) -> None:
        if self.data_dir.is_dir():
            return
        with contextlib.suppress(FileExistsError):  # others may start at the same moment
            self.data_dir.mkdir(parents=True)
            # Another user that the server runs as must be able to pass through; what is inside has modes of its own.
            self.data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def _ensure_running(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        with FileLock.at(self.watchdog_lock_path) as guard:
            while not guard.try_exclusive():
                if self.liveness() is Liveness.READY:
                    return
                if time.monotonic() > deadline:
                    raise self.failure(f"did not serve within {self.start_timeout:g} s")
                time.sleep(POLL_SECONDS)
            self._start_watchdog(guard, deadline)

    def _start_watchdog(self, guard: FileLock, deadline: float) -> None:
        specification = json.dumps({"kind": self.kind, "guard": guard.fileno(), **self.specification()})
        # The project may be run from its source tree: let the child find the package where we found it.
        paths = [str(Path(stepwell.__file__).absolute().parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self.open_log() as log:
            starter = subprocess.Popen(  # noqa: S603 -- ourselves
                [sys.executable, "-m", "stepwell.cli.embedded.watchdog", specification],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=[guard.fileno()],
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        with starter:  # it forks and ends at once; the watchdog holds the other end of the pipe
            assert starter.stdout is not None
            report = _read_until_closed(starter.stdout, deadline)
        if report is None:
            raise self.failure(f"did not serve within {self.start_timeout:g} s")
        if report != READY:
            raise ConfigurationError(report) if report else self.failure("could not be started")

    def failure(self, what: str) -> ConfigurationError:
        """An error that ends with the last words of the server."""
        return ConfigurationError(
            f"The embedded {self.kind} server {what}. {self.log_path} ends with:\n{self.log_tail()}"
        )

    def log_tail(self) -> str:
        return "\n".join(self.log_since(0).splitlines()[-LOG_TAIL_LINES:]) or "(nothing)"

    def log_since(self, offset: int) -> str:
        """What the log says after its first `offset` bytes."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(offset)
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def open_log(self) -> IO[bytes]:
        """The log, for appending. One that has grown too long is put aside first."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_KEPT_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        return os.fdopen(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)

    @abstractmethod
    def url(self) -> str:
        """How to connect to the running server."""

    @abstractmethod
    def liveness(self) -> Liveness:
        """Ask the server's socket."""

    # ---- called by the watchdog alone

    @abstractmethod
    def specification(self) -> dict[str, object]:
        """The arguments to build this object again in the watchdog. No secrets: other users can read them."""

    @abstractmethod
    def prepare(self) -> None:
        """Make ready all that `spawn` needs. Raises ConfigurationError with advice."""

    @abstractmethod
    def stop_stray(self) -> None:
        """Stop a server that runs although no watchdog looked after it, and wait for its end."""

    @abstractmethod
    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server as a child of this process, its output going to the log."""

    @abstractmethod
    def may_try_again(self, said: str) -> bool:
        """Whether a server that ended while starting may start a moment later, by what it said in the log."""

    def clean_up(self) -> None:  # noqa: B027 -- most servers leave nothing behind
        """Remove what is only of use while the server runs."""

    def run_to_end(self, user: ServerUser, command: Sequence[str]) -> bool:
        """Run a program of the server's to its end, its output going to the log."""
        with self.open_log() as log:
            process = user.popen(command, environment=server_environment(), stdin=subprocess.DEVNULL, output=log)
            return process.wait() == 0


def _read_until_closed(pipe: IO[bytes], deadline: float) -> str | None:
    """All that comes through the pipe; None when the deadline passes first."""
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(pipe.fileno(), 65536)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)
    return None
