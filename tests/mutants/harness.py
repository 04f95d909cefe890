"""Runs the tests over a copy of the tree in which one thing is wrong, to see that they notice.

A mutant is a mistake someone could make, as a replacement of a piece of source text that occurs exactly once. One whose text
has gone is an error: move it along with the code. Each names the tests that must notice it, so that asking takes seconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("engine", "api", "workers", "cli", "stepwell", "tests", "asl_examples", "pyproject.toml")
SECONDS = 180
TESTS_FAILED, NOTHING_RAN = 1, 5


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. `tests` are arguments of pytest; `why` says what the right code is for."""

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Make the mistake in the tree at `root`."""
        path = root / self.file
        text = path.read_text()
        found = text.count(self.old)
        if found != 1:
            raise MutantError(f"{self.name}: the text to replace occurs {found} times in {self.file}:\n{self.old}")
        path.write_text(text.replace(self.old, self.new))


class MutantError(AssertionError):
    """A mutant cannot be made, or its tests cannot be run."""


def unit(name: str) -> tuple[str, ...]:
    """The unit tests of the machine in `name`."""
    return (f"tests/unit/machine/{name}.py",)


def copy_tree(place: Path) -> Path:
    """A copy of the tree, without what was compiled."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, place / name)
    return place


def run_tests(place: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run these tests over the tree at `place`; the exit code of pytest and what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", "STEPWELL_NO_SHRINKING": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests],
        cwd=place, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def is_noticed(mutant: Mutant, place: Path) -> bool:
    """Whether the tests fail over the mutant; raises `MutantError` where they fail to run at all."""
    copy_tree(place)
    mutant.apply(place)
    code, said = run_tests(place, mutant.tests)
    if code not in (0, TESTS_FAILED) or "errors during collection" in said or "error during collection" in said:
        raise MutantError(f"{mutant.name}: its tests did not run (pytest ended with {code}):\n{said[-3000:]}")
    return code == TESTS_FAILED


def all_tests(mutants: Iterable[Mutant]) -> list[str]:
    """The tests that any of them names."""
    return sorted({test for mutant in mutants for test in mutant.tests})
