"""A whole run with tiny counts: a real server, the floor, and figures that agree with the database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.embedded import server_place


@pytest.mark.slow
def test_a_quick_run_measures_what_the_database_holds(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with server_place() as place:
        options = "floor w1 w2 x1 x1s x2s w4 --no-dbos --clients 2 --seconds 0.3 --rounds 2 --client python"
        command = [
            sys.executable,
            "-m",
            "bench",
            *options.split(),
            "--directory",
            str(place / "run"),
            "--json",
            str(file),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(file.read_text())
    cells = {(cell["workload"], cell["system"]): cell for cell in told["cells"]}
    assert set(cells) == {
        ("floor", "postgres, row a commit"),
        ("floor", "postgres, 500 rows a commit"),
        ("w1", "stepwell"),
        *((name, "stepwell") for name in ("w1", "w2", "x1", "x1s", "x2s")),
    }
    for name in ("w1", "w2", "x1", "x1s", "x2s"):
        cell = cells[name, "stepwell"]
        assert len(cell["rounds"]) == 2
        for figures in cell["rounds"]:
            assert figures["per_second"] > 0 and figures["p50_ms"] <= figures["p99_ms"]
            assert figures["executions"] == figures["verified"] > 0
            if name in ("w1", "w2"):
                assert figures["history_bytes"] > 0
            if name in ("w1", "w2", "x1"):
                assert figures["commits_per_second"] > 0 and figures["wal_per_step"] > 0
    assert told["waiting"]["waiting"] > 0
    assert told["load_generator"] == "python" and told["machine"]["postgres"]
    assert " stepwell " in done.stdout and str(file) in done.stdout
