"""`stepwell demo`: the whole story, told to machines and to people, and nothing left behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from stepwell.cli.demonstration import find_examples, without_catch
from stepwell.engine.asl.parse import parse_definition
from tests.cli.conftest import command


def test_the_fragile_order_is_a_valid_definition() -> None:
    (order,) = (one for one in find_examples() if one.name == "order_processing")
    definition = without_catch(order.definition, "Charge the card")
    parse_definition(definition)
    assert "Catch" not in definition["States"]["Charge the card"]
    assert "Out of stock" in definition["States"]


@pytest.mark.slow
@pytest.mark.xdist_group("stepwell-up")
def test_the_story_ends_well(tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("stepwell-demo-*"))
    ran = command("demo", "--port", "0", "--json", directory=tmp_path)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    told = json.loads(ran.stdout)
    assert told["order"]["status"] == "SUCCEEDED"
    assert set(told["examples"].values()) == {"SUCCEEDED"}
    redrive = told["redrive"]
    assert redrive["status"] == "SUCCEEDED"
    assert redrive["runBefore"] == {"Price the order": 1, "Reserve the goods": 1, "Charge the card": 1}
    assert redrive["runSince"] == {
        "Price the order": 0,
        "Reserve the goods": 0,
        "Charge the card": 1,
        "Book the shipment": 1,
    }
    assert "problems" not in told
    assert set(Path(tempfile.gettempdir()).glob("stepwell-demo-*")) <= before
