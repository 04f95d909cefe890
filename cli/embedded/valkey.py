"""A real Valkey as the broker of a single machine, that lives while somebody uses it.

Its data is disposable by design: nothing is written to disk, and whoever uses it must survive its loss. It listens on
the loopback address, on a free port, with a password of its own; both are noted in `valkey.json`, which only we can
read, and stay the same for as long as the port can be had.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from stepwell.cli.embedded.installations import binary_reachable_by, find_valkey
from stepwell.cli.embedded.lifecycle import POLL_SECONDS, EmbeddedService, Liveness
from stepwell.cli.embedded.server_user import ServerUser, server_environment

LOOPBACK = "127.0.0.1"
PROBE_SECONDS = 2.0
STOP_SECONDS = 10.0

# Goes to the server by its standard input: the password is in no command line and in no file of the server's.
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
protected-mode yes
dir {directory}
save ""
appendonly no
maxmemory-policy noeviction
daemonize no
logfile ""
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens and what it asks for."""

    port: int
    password: str


class EmbeddedValkey(EmbeddedService):
    """Valkey for all processes that name the same `data_dir`. `binary` names the server program to use."""

    kind = "valkey"
    stop_signals = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    def __init__(self, data_dir: Path | str, *, binary: Path | str | None = None, start_timeout: float = 60.0) -> None:
        super().__init__(data_dir, start_timeout=start_timeout)
        self._binary = None if binary is None else Path(binary).absolute()
        self._prepared: tuple[Path, ServerUser] | None = None

    def url(self) -> str:
        address = self._noted_address()
        if address is None:
            raise self.failure("has lost the note of its address")
        return f"redis://:{address.password}@{LOOPBACK}:{address.port}/0"

    def liveness(self) -> Liveness:
        address = self._noted_address()
        return Liveness.ABSENT if address is None else ask_valkey(address)

    def specification(self) -> dict[str, object]:
        return {"data_dir": str(self.data_dir), "binary": None if self._binary is None else str(self._binary)}

    @classmethod
    def from_specification(cls, specification: Mapping[str, object]) -> Self:
        binary = specification["binary"]
        return cls(str(specification["data_dir"]), binary=None if binary is None else str(binary))

    def prepare(self) -> None:
        user = ServerUser.choose()
        user.require_access(self.data_dir)
        self._prepared = binary_reachable_by(self._binary or find_valkey(), user, self.data_dir / "binaries"), user

    def spawn(self) -> subprocess.Popen[bytes]:
        assert self._prepared is not None, "prepare() comes first"
        binary, user = self._prepared
        # Everything but the binary is made anew here, so that the directory may be deleted under a running server.
        self._make_data_dir()
        directory = self.data_dir / "run"
        directory.mkdir(exist_ok=True)
        user.own(directory, 0o700)
        address = self._noted_address()
        if address is None or not _is_free(address.port):
            address = self._note_new_address()
        with self.open_log() as log:
            server = user.popen([str(binary), "-"], environment=server_environment(), stdin=subprocess.PIPE, output=log)
        assert server.stdin is not None
        with server.stdin as configuration:
            text = CONFIGURATION.format(host=LOOPBACK, directory=_quoted(directory), **asdict(address))
            configuration.write(text.encode())
        return server

    def may_try_again(self, said: str) -> bool:
        # Somebody took the free port in the moment before the server did.
        return "Failed listening on port" in said

    def stop_stray(self) -> None:
        """Stop it if it is ours. What else answers at the noted port may keep it: another one is taken."""
        address = self._noted_address()
        give_up = time.monotonic() + STOP_SECONDS
        while (found := self.liveness()) is Liveness.READY and address is not None and time.monotonic() < give_up:
            with contextlib.suppress(OSError), _session(address) as connection:
                connection.sendall(b"SHUTDOWN NOSAVE\r\n")
                while connection.recv(4096):
                    pass
            time.sleep(POLL_SECONDS)
        if found is not Liveness.ABSENT:
            self._note.unlink(missing_ok=True)

    def _noted_address(self) -> Address | None:
        try:
            return Address(**json.loads(self._note.read_text()))
        except FileNotFoundError:
            return None

    def _note_new_address(self) -> Address:
        with socket.socket() as unused:
            unused.bind((LOOPBACK, 0))
            address = Address(unused.getsockname()[1], secrets.token_hex(24))
        unfinished = self._note.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as note:
            json.dump(asdict(address), note)
        unfinished.replace(self._note)
        return address

    @property
    def _note(self) -> Path:
        return self.data_dir / "valkey.json"


def ask_valkey(address: Address) -> Liveness:
    """Ask the server for a sign of life, by its password; another server at this port is none of ours."""
    try:
        with _session(address) as connection:
            connection.sendall(b"PING\r\n")
            answer = b""
            while answer.count(b"\n") < 2 and (part := connection.recv(4096)):
                answer += part
    except ConnectionRefusedError:
        return Liveness.ABSENT
    except OSError:
        return Liveness.BUSY
    if not answer.startswith(b"+OK"):
        return Liveness.ABSENT
    return Liveness.READY if b"+PONG" in answer else Liveness.BUSY


def _session(address: Address) -> socket.socket:
    """A connection that has sent its password; the answer to that is still to be read."""
    connection = socket.create_connection((LOOPBACK, address.port), timeout=PROBE_SECONDS)
    connection.sendall(f"AUTH {address.password}\r\n".encode())
    return connection


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
