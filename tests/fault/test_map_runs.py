"""An engine is killed in the middle of a Map Run: no item is left out, none is given to two children, the results are whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fault.cluster import Cluster, http_state
from tests.support.ledger import Ledger

pytestmark = pytest.mark.fault
ITEMS = 90


def distributed(ledger: Ledger, **fields: Any) -> dict[str, Any]:
    """A Map Run over items of a CSV object, each an effect in the ledger; the children hand their items on."""
    pay = {**http_state(ledger, "Pay"), "ResultPath": None, "End": True}
    processor = {"ProcessorConfig": {"Mode": "DISTRIBUTED"}, "StartAt": "Pay", "States": {"Pay": pay}}
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "Parameters": {"Bucket": "books", "Key": "items.csv"},
        "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
    }
    each = {"Type": "Map", "Label": "Each", "MaxConcurrency": 5, "ItemReader": reader, "ItemProcessor": processor}
    return {"StartAt": "Each", "States": {"Each": {**each, **fields, "End": True}}}


def killed(
    cluster: Cluster, ledger: Ledger, failpoint: str, without: str | None = None, **fields: Any
) -> tuple[list[str], Any]:
    """Kill the engine at a step of the Map Run, let another one finish it; what is broken, and the output."""
    books = cluster.books()
    (books / "items.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(ITEMS)))
    buckets = f"books={books}"
    doomed = cluster.node(failpoint=failpoint, without=without, buckets=buckets)
    doomed.api.deploy("each", distributed(ledger, **fields))
    doomed.api.try_start("each", "a")
    doomed.died()
    node = cluster.node(without=without, buckets=buckets)
    id = node.api.start("each", "a")
    shown = node.api.ended(id)
    broken = cluster.findings()
    if shown["status"] != "SUCCEEDED":
        broken.append(f"the execution is {shown['status']}: {shown.get('error')} {shown.get('cause')}")
    if (children := cluster.sql("SELECT count(*) FROM execution WHERE map_run IS NOT NULL")) != [ITEMS]:
        broken.append(f"{children} child executions")
    if len(ledger.keys("Pay")) != ITEMS:
        broken.append(f"{len(ledger.keys('Pay'))} effects")
    return broken, shown.get("output")


WHOLE = [{"n": str(number)} for number in range(ITEMS)]


@pytest.mark.parametrize("place", ("before", "after"))
@pytest.mark.parametrize("step", (1, 7, 25))
def test_killed_in_a_map_run(cluster: Cluster, ledger: Ledger, place: str, step: int) -> None:
    assert killed(cluster, ledger, f"{place}_map_run_commit:{step}") == ([], WHOLE)


def test_killed_between_a_childs_end_and_its_map_run(cluster: Cluster, ledger: Ledger) -> None:
    assert killed(cluster, ledger, "after_commit:12") == ([], WHOLE)


def test_control_killed_in_a_map_run(cluster: Cluster, ledger: Ledger) -> None:
    broken, output = killed(cluster, ledger, "after_map_run_commit:7", without="cursors")
    assert any("child executions" in each for each in broken)
    assert output != WHOLE


def test_killed_while_results_are_written(cluster: Cluster, ledger: Ledger) -> None:
    """The parts are there once, whole, under the keys of the manifest."""
    parameters = {"Bucket": "books", "Prefix": "results"}
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": parameters}
    broken, output = killed(cluster, ledger, "before_result_commit", ResultWriter=writer)
    assert broken == []
    details = output["ResultWriterDetails"]
    manifest = json.loads((cluster.books() / details["Key"]).read_text())
    entries = []
    for part in manifest["ResultFiles"]["SUCCEEDED"]:
        entries += json.loads((cluster.books() / part["Key"]).read_text())
    assert [json.loads(entry["Output"]) for entry in entries] == WHOLE
