"""The planner of Map Runs: nothing is started twice, lost or miscounted, however pages and ends come; property tests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import MapState
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.machine.map_run import (
    ChildResult,
    Ended,
    ItemStatus,
    Maker,
    Plan,
    Progress,
    SourceItem,
    child_name,
    map_state,
    result_texts,
)
from stepwell.engine.machine.map_spec import BatchSpec, MapRunSpec, WriterSpec
from stepwell.engine.query import effort
from stepwell.engine.query.jsonata import FULL, Outcomes, OverBudgetError, carry_out
from stepwell.engine.states_errors import StatesError

MACHINE = parse_definition(
    {
        "StartAt": "M",
        "States": {
            "M": {
                "Type": "Map",
                "End": True,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED"},
                    "StartAt": "W",
                    "States": {"W": {"Type": "Pass", "End": True}},
                },
            }
        },
    }
)
STATE = map_state(MACHINE, "M")


def spec(**fields: object) -> MapRunSpec:
    return msgspec.structs.replace(MapRunSpec("M", "L", "arn", "parent"), **fields)


def items(count: int, start: int = 0) -> list[SourceItem]:
    return [SourceItem(write(index), str(index + 1)) for index in range(start, count)]


def read_again(progress: Progress) -> Progress:
    """As it is kept in the store."""
    return msgspec.json.decode(msgspec.json.encode(progress), type=Progress)


@given(
    count=st.integers(0, 60),
    limit=st.integers(1, 7),
    batch=st.integers(0, 4),
    page=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_every_item_is_given_to_exactly_one_child(count: int, limit: int, batch: int, page: int, seed: int) -> None:
    """Over any pages, ends and restarts from what was written."""
    asked = spec(max_concurrency=limit, tolerated_percentage=100.0, batch=BatchSpec(batch) if batch else None)
    chance = Entropy(seed)
    plan = Plan(asked)
    maker = Maker(asked, STATE, plan.progress, Entropy(0))
    source = iter(items(count))
    pending: list[tuple[int, int]] = []
    running: dict[int, int] = {}
    seen: list[int] = []
    while not plan.quiet:
        if chance.fraction() < 0.2:
            plan = Plan(asked, read_again(plan.progress))
            maker = Maker(asked, STATE, plan.progress, Entropy(0))
            source = iter(items(count, int(plan.progress.cursor or 0)))
        if plan.wants_items:
            children, exhausted = [], False
            for _ in range(page):
                item = next(source, None)
                if item is None:
                    children += maker.rest()
                    exhausted = True
                    break
                children += maker.take(item)
            plan.made(children, exhausted=exhausted)
            for child in children:
                value = Document.trusted(child.input).value
                got: list[Any] = value["Items"] if isinstance(value, dict) else [value]
                assert len(got) == child.size
                seen += got
                pending.append((child.number, child.size))
        starting, pending = pending[: plan.room], pending[plan.room :]
        plan.started([size for _, size in starting])
        running |= dict(starting)
        assert len(running) == plan.progress.executions.running <= limit
        if running:
            ending = [number for number in sorted(running) if chance.fraction() < 0.5]
            statuses = [ItemStatus.SUCCEEDED if chance.fraction() < 0.7 else ItemStatus.FAILED for _ in ending]
            plan.ended([Ended(n, running.pop(n), status) for n, status in zip(ending, statuses, strict=True)])
    assert seen == list(range(count))
    assert plan.progress.items.total == plan.progress.items.ended == count
    assert plan.progress.made == plan.progress.executions.ended
    assert not plan.failed


@given(failed=st.integers(0, 30), succeeded=st.integers(0, 30), percentage=st.floats(0, 100))
def test_percentage_of_all_items(failed: int, succeeded: int, percentage: float) -> None:
    plan = Plan(spec(tolerated_percentage=percentage))
    plan.progress.items.failed, plan.progress.items.succeeded = failed, succeeded
    plan.progress.exhausted = True
    total = failed + succeeded
    assert plan.exceeded == (failed > 0 and 100 * failed / total > percentage + 1e-9)


def test_a_share_is_judged_only_when_all_items_are_known() -> None:
    plan = Plan(spec(tolerated_percentage=50.0))
    plan.progress.items.failed = 1
    plan.judge()
    assert plan.progress.error is None
    plan.made([], exhausted=True)
    plan.judge()
    assert (plan.failed, plan.room, plan.quiet) == (True, 0, True)


def test_count_and_percentage_are_both_bounds() -> None:
    plan = Plan(spec(tolerated_count=2, tolerated_percentage=90.0))
    plan.progress.items.timed_out = 2
    plan.progress.items.succeeded = 100
    assert not plan.exceeded
    plan.progress.items.failed = 1
    assert plan.exceeded


def test_a_batch_is_closed_before_it_is_too_large() -> None:
    asked = spec(batch=BatchSpec(0, 30))
    maker = Maker(asked, STATE, Progress(), Entropy(0))
    children = [child for item in items(40) for child in maker.take(item)] + maker.rest()
    assert all(len(child.input) <= 30 for child in children)
    assert sum(child.size for child in children) == 40
    assert [child.number for child in children] == list(range(len(children)))
    for child in children:
        assert child.cursor == str(child.source), "a child stands behind its own last item, not behind the next one"


def test_one_item_larger_than_a_batch_is_an_error() -> None:
    maker = Maker(spec(batch=BatchSpec(2, 20)), STATE, Progress(), Entropy(0))
    with pytest.raises(StatesError, match=r"States.ItemReaderFailed: .*index 0"):
        maker.take(SourceItem(write("x" * 50)))


def test_redrive_counts_what_is_run_again_as_pending() -> None:
    plan = Plan(spec())
    plan.progress.exhausted = True
    plan.progress.executions.failed, plan.progress.items.failed = 2, 6
    plan.progress.executions.succeeded, plan.progress.items.succeeded = 1, 3
    plan.judge()
    assert plan.progress.error is not None
    plan.redrive({ItemStatus.FAILED: (2, 6)})
    assert (plan.failed, plan.progress.redrives) == (False, 1)
    assert (plan.progress.executions.pending, plan.progress.items.pending) == (2, 6)
    assert (plan.progress.executions.failed, plan.progress.items.succeeded) == (0, 3)


def test_names_of_children_are_the_same_each_time() -> None:
    run = bytes(range(16))
    names = {child_name(run, number) for number in range(100)}
    assert len(names) == 100 and child_name(run, 7) in names
    assert child_name(bytes(16), 7) not in names


def child(status: ItemStatus, output: bytes | None) -> ChildResult:
    return ChildResult(0, 1, status, "arn", "name", "machine", b"1", 5, 6, output, error=None if output else "E")


def test_transformations_of_results() -> None:
    done = child(ItemStatus.SUCCEEDED, b"[1,[2]]")
    texts = {
        name: [Document.trusted(text).value for text in result_texts(spec(writer=WriterSpec(config=config)), done)]
        for name, config in {name: {"Transformation": name} for name in ("NONE", "COMPACT", "FLATTEN")}.items()
    }
    assert texts["COMPACT"] == [[1, [2]]]
    assert texts["FLATTEN"] == [1, [2]]
    (whole,) = texts["NONE"]
    assert isinstance(whole, dict)
    assert (whole["Output"], whole["Status"], whole["Input"]) == ("[1,[2]]", "SUCCEEDED", "1")
    (failed,) = result_texts(spec(), child(ItemStatus.FAILED, None))
    assert Document.trusted(failed).value["Error"] == "E"  # type: ignore[index,call-overload]


def selecting(selector: Json, language: str = "JSONPath") -> MapState:
    processor: Json = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED"},
        "StartAt": "W",
        "States": {"W": {"Type": "Succeed"}},
    }
    state: Json = {"Type": "Map", "ItemSelector": selector, "ItemProcessor": processor, "End": True}
    return map_state(parse_definition({"StartAt": "M", "QueryLanguage": language, "States": {"M": state}}), "M")


def test_an_item_draws_the_same_whenever_it_is_taken() -> None:
    """Also where what was read before it was taken by another node; each item draws something else."""
    state = selecting("{% [$uuid(), $random()] %}", "JSONata")
    maker = Maker(spec(), state, Progress(), Entropy(7))
    drawn = [child.input for item in items(20) for child in maker.take(item)]
    assert len(set(drawn)) == 20
    later = Maker(spec(), state, Progress(source=10, made=10), Entropy(7))
    assert [child.input for item in items(20, 10) for child in later.take(item)] == drawn[10:]
    other = Maker(spec(), state, Progress(), Entropy(8))
    assert not {child.input for item in items(20) for child in other.take(item)} & set(drawn)


def test_an_item_is_taken_again_with_what_is_known_then() -> None:
    """After an expression that needs too much, with the outcome it would have had, and as the same child."""
    heavy = "{% ($r := $random(); [$r, $sum([1..60000].($ * 1))]) %}"
    maker = Maker(spec(), selecting(heavy, "JSONata"), Progress(), Entropy(7))
    (item,) = items(1)
    with pytest.raises(OverBudgetError) as needs:
        maker.take(item)
    maker.heavy = outcomes = Outcomes()
    outcomes.add(needs.value.evaluation, carry_out(needs.value.evaluation, FULL))
    (child,) = maker.take(item)
    assert (child.number, child.source) == (0, 1)
    assert Document.trusted(child.input).value[1] == 60_000 * 60_001 // 2  # type: ignore[index]


def test_what_an_item_may_be_searched_for_is_bounded_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "MAX_SHARED_STEPS", 60)
    selector = {"a.$": "$$.Map.Item.Value..x", "b.$": "$$.Map.Item.Value..y"}
    maker = Maker(spec(), selecting(selector), Progress(), Entropy(7))
    try:
        for _ in range(5):
            assert maker.take(SourceItem(write([1] * 15)))
        with pytest.raises(StatesError, match="takes too long"):
            maker.take(SourceItem(write([1] * 50)))
    finally:
        effort.end_states()
