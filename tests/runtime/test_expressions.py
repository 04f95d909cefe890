"""Expressions in helper processes: what runs away ends as an error, and holds up nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stepwell.engine.errors import ExpressionsUnavailableError
from stepwell.engine.limits import JSONATA_MEMORY_BYTES
from stepwell.engine.query.evaluation import Evaluation, Outcome
from stepwell.engine.runtime import expressions as expressions_module
from stepwell.engine.runtime.expressions import HELPERS, Expressions, Helper, carry_out_apart
from tests.support.waiting import until

ENDLESS = "($f := function($n) {$f($n + 1)}; $f(0))"
DOUBLED = "($f := function($s, $n) {$n = 0 ? $s : $f([[$s], [$s]], $n - 1)}; $d := $f(0, 40); %s)"
"""Forty levels of arrays, each holding the one below twice: small in memory as long as nobody looks into it."""

TIME = [
    ENDLESS,
    "$match($pad('', 40, 'a') & '!', /(a+)+$/)",
    "$count([1..9000].($sort([1..9000])[0]))",
    DOUBLED % "$d = $f(0, 40)",
]
MEMORY = [
    "$replace($pad('', 100000, 'a'), 'a', $pad('', 100000, 'b'))",
    "$count($map([1..900], function($i) {[1..100000]}))",
    DOUBLED % "$sum($d)",
]
SIZE = [
    "($f := function($s) {$f($s & $s)}; $f('ab'))",
    "($f := function($s) {$f($append($s, $s))}; $f([1, 2]))",
    "$count([1..2000000])",
    DOUBLED % "$string($d)",
    "($f := function($s, $n) {$n = 0 ? $s : $f([[$s]], $n - 1)}; $f(1, 20000))",
]


@pytest.fixture(scope="module")
def helper() -> Iterator[Helper]:
    helper = Helper()
    yield helper
    helper.kill()


@pytest.fixture
async def expressions() -> AsyncIterator[Expressions]:
    expressions = Expressions()
    # A helper may take longer to start than what runs away takes to be ended.
    await asyncio.gather(*(expressions.carry_out(of(str(number))) for number in range(HELPERS)))
    yield expressions
    await expressions.close()


def of(source: str, document: str = "null") -> Evaluation:
    return Evaluation(source, document)


def test_values_errors_and_undefined_come_back(helper: Helper) -> None:
    assert helper.carry_out(of("a + 1", '{"a": 41}')) == Outcome("42")
    assert helper.carry_out(of("b", '{"a": 41}')) == Outcome(None)
    wrong = helper.carry_out(of("1 + 'x'"))
    assert (wrong.code, wrong.limit) == ("T2002", False)
    assert helper.carry_out(of("$now()", "null")).text == '"1970-01-01T00:00:00.000Z"'


@pytest.mark.parametrize("source", TIME)
def test_what_takes_too_long_ends_with_a_cause_that_says_so(helper: Helper, source: str) -> None:
    outcome = helper.carry_out(of(source))
    assert outcome.limit and outcome.code == "D1012" and "takes longer than 1 s" in (outcome.message or "")


@pytest.fixture(scope="module")
def patient() -> Iterator[Helper]:
    helper = Helper(seconds=60)
    yield helper
    helper.kill()


@pytest.mark.parametrize("source", MEMORY)
def test_what_takes_too_much_memory_ends_the_helper_alone(patient: Helper, source: str) -> None:
    outcome = patient.carry_out(of(source))
    assert outcome.limit and "more than 256 MiB" in (outcome.message or "")
    assert patient.carry_out(of("1 + 1")) == Outcome("2")


@pytest.mark.parametrize("source", SIZE)
def test_what_grows_without_end_strikes_a_limit_of_size(patient: Helper, source: str) -> None:
    outcome = patient.carry_out(of(source))
    assert outcome.limit and outcome.code == "U1001" and "grow without end" in (outcome.message or "")


def test_a_recursion_that_is_too_deep_is_an_error_that_jsonata_knows(helper: Helper) -> None:
    outcome = helper.carry_out(of("($f := function($n) {1 + $f($n + 1)}; $f(0))"))
    assert outcome.limit and outcome.code == "D1011" and "non-terminating recursive function" in (outcome.message or "")


def test_a_helper_has_nothing_of_ours_but_a_socket(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_SECRET_KEY", "hidden")
    helper.kill()
    helper.carry_out(of("1"))
    process = helper._process
    assert process is not None
    known = Path(f"/proc/{process.pid}")
    if not known.exists():
        pytest.skip("this system has no /proc")
    assert b"STEPWELL" not in (known / "environ").read_bytes()
    assert {str(file.readlink()).partition(":")[0] for file in (known / "fd").iterdir()} == {"/dev/null", "socket"}
    limits = (known / "limits").read_text().splitlines()
    (bound,) = [line.split()[3] for line in limits if line.startswith("Max address space")]
    assert int(bound) <= 2 * JSONATA_MEMORY_BYTES


def test_a_helper_that_was_killed_is_started_again(helper: Helper) -> None:
    helper.carry_out(of("1"))
    assert helper._process is not None
    os.kill(helper._process.pid, signal.SIGKILL)
    helper._process.wait()
    assert helper.carry_out(of("1 + 1")) == Outcome("2")


def test_a_helper_that_starts_too_late_answers_nothing_else(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each evaluation would be given what came of the one before it."""
    helper.kill()
    with monkeypatch.context() as patched:
        patched.setattr(expressions_module, "START_SECONDS", 0.001)
        with pytest.raises(OSError, match="timed out"):
            helper.carry_out(of("1"))
    assert [helper.carry_out(of(source)).text for source in ("'a'", "'b'")] == ['"a"', '"b"']


def test_callers_without_an_event_loop_have_a_helper_too() -> None:
    assert carry_out_apart(of("1 + 1")) == Outcome("2")
    assert carry_out_apart(of(ENDLESS)).limit


async def test_an_expression_is_not_held_up_by_those_that_have_struck_a_limit(expressions: Expressions) -> None:
    ended: list[str] = []

    async def run(name: str, source: str) -> None:
        await expressions.carry_out(of(source, f'"{name}"'))
        ended.append(name)

    await run("first", ENDLESS)
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(run(f"endless {number}", ENDLESS))
        group.create_task(run("ordinary", "$sum([1..1000])"))
    assert [name for name in ended if name != "ordinary"] == ["first", "endless 0", "endless 1", "endless 2"]
    assert ended.index("ordinary") < ended.index("endless 1")


async def test_those_that_wait_for_one_another_leave_the_line_in_order(expressions: Expressions) -> None:
    """Some turn out to run away while others of them wait already."""
    ended: list[str] = []

    async def run(name: str, source: str) -> None:
        await expressions.carry_out(of(source, f'"{name}"'))
        ended.append(name)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(run(f"endless {number}", ENDLESS))
        for number in range(3):
            group.create_task(run(f"ordinary {number}", f"$sum([1..{number}])"))
    assert sorted(ended[:2]) == ["endless 0", "endless 1"]
    assert [name for name in ended if "ordinary" in name] == ["ordinary 0", "ordinary 1", "ordinary 2"]
    assert [name for name in ended[2:] if "endless" in name] == ["endless 2", "endless 3"]
    assert ended[-1] == "endless 3"
    assert expressions._waiting_bytes == 0


async def test_no_more_waits_than_there_is_room_for(expressions: Expressions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.engine.runtime.expressions.MAX_WAITING_BYTES", 1_000)
    document = f'"{"x" * 900}"'
    taken = [asyncio.create_task(expressions.carry_out(of(f"{ENDLESS} & '{n}'", document))) for n in range(HELPERS + 1)]
    await until(lambda: len(expressions._waiting) == 1)
    with pytest.raises(ExpressionsUnavailableError, match="Too many"):
        await expressions.carry_out(of("$sum([1..9])", document))
    await asyncio.gather(*taken)
    assert (await expressions.carry_out(of("$sum([1..9])", document))).text == "45"


async def test_equal_evaluations_are_carried_out_once(expressions: Expressions) -> None:
    outcomes = await asyncio.gather(*(expressions.carry_out(of("$random()")) for _ in range(5)))
    assert len({outcome.text for outcome in outcomes}) == 1
    assert not expressions._asked and not expressions._waiting


async def test_closing_ends_what_runs_and_what_waits() -> None:
    expressions = Expressions(1)
    running = asyncio.create_task(expressions.carry_out(of(ENDLESS, "1")))
    waiting = asyncio.create_task(expressions.carry_out(of(ENDLESS, "2")))
    await until(lambda: expressions._helpers[0]._process is not None)
    await expressions.close()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert isinstance(waiting.exception(), ExpressionsUnavailableError)
    assert running.exception() or running.result().limit
    with pytest.raises(ExpressionsUnavailableError):
        await expressions.carry_out(of("1"))


async def test_a_caller_that_goes_away_leaves_the_evaluation_to_others(expressions: Expressions) -> None:
    first = asyncio.create_task(expressions.carry_out(of("$sum([1..100])")))
    second = asyncio.create_task(expressions.carry_out(of("$sum([1..100])")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).text == "5050"


def test_paths_that_take_too_much_in_the_engine_are_carried_out_too(helper: Helper) -> None:
    document = '{"input": {"a": [[1], [2, 3]]}, "variables": {"v": 7}, "context": null}'
    source = '{"n.$": "$..*.*", "v.$": "$v", "id.$": "States.MathRandom(1, 9)"}'
    template = Evaluation(source, document, seed=5, kind="template")
    outcome = helper.carry_out(template)
    assert outcome.text is not None
    assert outcome.text.startswith('{"n":[[1],[2,3],1,2,3],"v":7,"id":')
    assert helper.carry_out(template) == outcome
    nowhere = helper.carry_out(Evaluation('"$.b.c"', document, kind="path"))
    assert (nowhere.code, nowhere.limit) == ("States.Runtime", False)


def test_a_path_that_does_not_come_to_an_end_is_ended(helper: Helper) -> None:
    nested = "[" * 300 + "]" * 300
    document = f'{{"input": {nested}, "variables": {{}}, "context": null}}'
    outcome = helper.carry_out(Evaluation('"$..*..*..*..*"', document, kind="path"))
    assert outcome.limit
    assert outcome.code in ("States.Runtime", "D1012")
