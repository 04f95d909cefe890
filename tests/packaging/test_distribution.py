"""What a user gets from `pip install stepwell`: one package of real files, everything in it, nothing beside it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import stepwell
from tests.conftest import ROOT
from tests.packaging.conftest import Distribution

pytestmark = pytest.mark.xdist_group("distribution")


def shipped_files() -> set[str]:
    """Every file under stepwell/, through its links, that is not a leftover of running it."""
    found = set()
    for folder, folders, files in os.walk(ROOT / "stepwell", followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {str((Path(folder) / name).relative_to(ROOT)) for name in files if not name.startswith(".")}
    return found


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_top_level_of_the_wheel_is_stepwell_alone(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"stepwell", f"stepwell-{stepwell.__version__}.dist-info"}


def test_wheel_holds_every_file_of_the_package(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        files = {name for name in archive.namelist() if name.startswith("stepwell/")}
    assert files == shipped_files()
    assert "stepwell/py.typed" in files


def test_neither_archive_holds_a_link(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        links = [info.filename for info in archive.infolist() if stat.S_ISLNK(info.external_attr >> 16)]
    with tarfile.open(distribution.sdist) as source:
        links += [member.name for member in source if not (member.isreg() or member.isdir())]
    assert links == []


def test_sdist_holds_the_sources_once_and_its_papers(distribution: Distribution) -> None:
    with tarfile.open(distribution.sdist) as source:
        names = {member.name.partition("/")[2] for member in source if member.isreg()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= names
    assert shipped_files() <= names
    assert not [name for name in names if name.startswith(("engine/", "api/", "workers/", "cli/", "tests/"))]


def test_metadata_says_who_what_and_for_which_python(distribution: Distribution) -> None:
    about = metadata(distribution.wheel)
    assert about["Name"] == "stepwell"
    assert about["Version"] == stepwell.__version__
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "Apache-2.0"
    assert set(about.get_all("Provides-Extra", [])) == {"server", "embedded", "aws", "ai", "otel", "parquet"}


def test_wheel_runs_from_its_archive(distribution: Distribution, tmp_path: Path) -> None:
    """The command works with the wheel in front of the path, away from the checkout."""
    with zipfile.ZipFile(distribution.wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import stepwell.cli.main as it; "
        f"assert it.__file__.startswith({str(tmp_path)!r}), it.__file__; it.main(['--version'])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    assert stepwell.__version__ in ran.stdout
