"""As whom a server runs: as we do, or, when we are root, as a user with fewer rights that can reach what it needs.

PostgreSQL refuses to run as root, and nothing that listens should. No user is created and no directory of somebody else
is opened up for it: what the user cannot reach is copied or refused.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stepwell.engine.errors import ConfigurationError

PREFERRED_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user a server runs as. `uid` and `gid` are None when it is the user we are."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls, existing_data: Path | None = None) -> ServerUser:
        """Ourselves, unless we are root. For root: the owner of `existing_data`, else `postgres`, else `nobody`."""
        if os.geteuid() != 0:
            return cls("the current user")
        if existing_data is not None and existing_data.exists():
            owner = existing_data.stat()
            if owner.st_uid != 0:
                return cls(_name_of(owner.st_uid), owner.st_uid, owner.st_gid)
        for name in PREFERRED_USERS:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(name, entry.pw_uid, entry.pw_gid)
        raise ConfigurationError(
            "An embedded server does not run as root, and this machine has neither a user 'postgres' nor 'nobody'. "
            "Run Stepwell as an ordinary user."
        )

    def popen(
        self, command: Sequence[str], *, environment: Mapping[str, str], stdin: int | IO[bytes], output: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start `command` as this user, in the root directory; it inherits no descriptor but the three standard ones."""
        try:
            return subprocess.Popen(  # noqa: S603 -- programs of an installation we looked up
                command,
                stdin=stdin,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
            )
        except OSError as error:
            raise ConfigurationError(f"{command[0]} could not be started as {self.name}: {error.strerror}.") from error

    def runs(self, command: Sequence[str]) -> bool:
        """Whether `command` runs as this user and succeeds. Says whether a binary and its libraries are reachable."""
        try:
            process = self.popen(
                command, environment=server_environment(), stdin=subprocess.DEVNULL, output=subprocess.DEVNULL
            )
        except ConfigurationError:
            return False
        return process.wait() == 0

    def own(self, path: Path, mode: int) -> None:
        """Give `path`, which we made, to this user."""
        path.chmod(mode)
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def require_access(self, directory: Path) -> None:
        """Refuse a directory this user cannot enter, naming the place that bars the way."""
        if self.uid is None or self.runs(["/usr/bin/env", "test", "-x", str(directory)]):
            return
        for part in (*reversed(directory.parents), directory):
            if not self.runs(["/usr/bin/env", "test", "-x", str(part)]):
                raise ConfigurationError(
                    f"The server runs as the user '{self.name}', as it does not run as root, and that user cannot enter "
                    f"{part}. Choose a data directory it can reach, for example under /var/lib/stepwell, or run Stepwell "
                    "as an ordinary user."
                )


def server_environment() -> dict[str, str]:
    """All that a server sees of our environment: no PG* variable and no locale of ours may change what it does."""
    return {"PATH": os.environ.get("PATH") or os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
