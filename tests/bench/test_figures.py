"""Medians, ratios and goals, from figures made up for them."""

from __future__ import annotations

import json

import pytest

from bench import report
from bench.figures import Cells, Figures, median
from bench.load import BODY, WRK_SCRIPT
from bench.run import Plan, Result
from bench.usage import Process, processes, tree
from bench.workloads import WORKLOADS, chain


def test_the_median_takes_each_figure_by_itself_and_adds_counts_up() -> None:
    rounds = [
        Figures(100.0, p50_ms=3.0, executions=10, verified=9),
        Figures(300.0, p50_ms=1.0, executions=20, verified=20),
    ]
    told = median([*rounds, Figures(200.0, executions=5, verified=5)])
    assert (told.per_second, told.p50_ms, told.wal_per_step) == (200.0, 2.0, None)
    assert (told.executions, told.verified) == (35, 34)


def test_ratios_are_to_the_floor_in_steps_and_to_the_better_way_of_dbos_in_executions() -> None:
    result = Result(Plan(workloads=("w1t", "floor")), "18")
    result.cells.add("floor", report.FLOOR, 64, 1, Figures(20_000.0))
    result.cells.add("w1t", "stepwell", 64, 10, Figures(800.0, wal_per_step=150.0))
    result.cells.add("w1t", "dbos, tasks", 64, 10, Figures(40.0))
    result.cells.add("w1t", "dbos, threads", 64, 10, Figures(80.0))
    told = json.loads(json.dumps(report.as_json(result)))
    (ratio,) = told["ratios"]
    assert (ratio["steps_to_floor"], ratio["to_dbos"]) == (0.4, 10.0)
    met = {goal["about"]: goal["met"] for goal in told["goals"]}
    assert met["W1t executions/s at 64 clients"] is True and met["W1 p50 in ms at one client"] is None
    assert "dbos, threads" in report.as_text(result)


def test_cells_hold_the_spread_of_their_rounds() -> None:
    cells = Cells()
    for rate in (80.0, 100.0, 120.0):
        cells.add("w1", "stepwell", 1, 10, Figures(rate))
    cell = cells.get("w1", "stepwell", 1)
    assert cell is not None and cell.spread == pytest.approx(0.4)


def test_a_process_tree_is_its_root_and_all_below() -> None:
    table = {pid: Process(pid, parent, 1.0, "x") for pid, parent in ((1, 0), (2, 1), (3, 2), (4, 0))}
    assert {one.pid for one in tree(1, table)} == {1, 2, 3}
    assert tree(9, processes() and table) == []


def test_definitions_are_chains_as_long_as_their_steps() -> None:
    for workload in WORKLOADS.values():
        states = workload.definition["States"]
        assert isinstance(states, dict) and len(states) == workload.steps
    assert chain(2, Type="Pass")["States"] == {
        "S1": {"Type": "Pass", "Next": "S2"},
        "S2": {"Type": "Pass", "End": True},
    }


def test_the_script_of_wrk_is_a_format_of_the_body_alone() -> None:
    script = WRK_SCRIPT % BODY.decode()
    assert BODY.decode() in script and '"requests":%d' in script
