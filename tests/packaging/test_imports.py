"""The import names and the weight of what a worker imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BARE_NAMES, ROOT

HEAVY = (
    "aiohttp",
    "alembic",
    "asyncpg",
    "boto3",
    "botocore",
    "cryptography",
    "fastapi",
    "jlens",
    "prometheus_client",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "uvicorn",
)


def sources() -> list[Path]:
    folders = [*sorted(BARE_NAMES), "stepwell", "tests", "bench"]
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def imported_names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_no_source_imports_a_bare_name() -> None:
    files = sources()
    assert ROOT / "engine" / "__init__.py" in files
    offenders = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in imported_names(file)
        if name.partition(".")[0] in BARE_NAMES
    }
    assert not offenders


@pytest.mark.parametrize("name", sorted(BARE_NAMES))
def test_a_bare_name_is_refused_while_tests_run(name: str) -> None:
    with pytest.raises(ImportError, match=f"import stepwell.{name}"):
        __import__(name)


def test_a_module_of_a_bare_name_elsewhere_is_the_users_own(tmp_path: Path) -> None:
    """A user's own `workers` package beside their Celery app is what `import workers` gives them, with Stepwell installed."""
    package = tmp_path / "workers"
    package.mkdir()
    (package / "__init__.py").write_text("mine = True\n")
    program = "import stepwell.workers, workers; assert workers.mine"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr


def test_what_a_worker_imports_stays_light(tmp_path: Path) -> None:
    """Every module of stepwell.workers, loaded as a worker loads it, in a process of its own."""
    program = """if True:
        import importlib, pkgutil, sys
        import stepwell.workers as workers
        for module in pkgutil.walk_packages(workers.__path__, "stepwell.workers."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        print(*sorted(sys.modules))
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert "stepwell.workers" in loaded
    assert not loaded & set(HEAVY)
