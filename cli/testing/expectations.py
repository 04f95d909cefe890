"""What a test case expects of its execution: reading it, and telling in which ways an outcome is not that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stepwell.cli.output import duration
from stepwell.engine.asl.scanner import escape_pointer
from stepwell.engine.asl.states import StateType
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.machine.commands import Status
from stepwell.engine.runtime.local import LocalExecution
from stepwell.engine.runtime.mock_config import Notes, near

EXPECT_MEMBERS: Final = (
    "Attempts",
    "Calls",
    "Cause",
    "CauseContains",
    "DurationSeconds",
    "Error",
    "FailedState",
    "Output",
    "OutputContains",
    "Path",
    "Status",
    "Visits",
)


SHOWN_DIFFERENCES: Final = 12
_SHOWN_CHARS: Final = 160


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a case must come to; what is None (or empty) is not looked at. `given` says that the file expects something."""

    status: Status | None = None
    output: Json = None
    has_output: bool = False
    output_contains: Json = None
    has_output_contains: bool = False
    error: str | None = None
    cause: str | None = None
    cause_contains: str | None = None
    failed_state: str | None = None
    path: tuple[str, ...] | None = None
    visits: Mapping[str, int] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    seconds: tuple[float | None, float | None] | None = None
    """The least and the most of virtual time."""
    given: bool = False

    @property
    def fails(self) -> bool:
        """Whether the execution is to end badly, where the status itself is not given."""
        return any(one is not None for one in (self.error, self.cause, self.cause_contains, self.failed_state))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution came to. `path` are the states entered, in the order of its history; `visits` and `calls` (what each task
    was given) are those of its child executions, too."""

    status: Status
    output: Json
    error: str | None
    cause: str | None
    failed_state: str | None
    path: tuple[str, ...]
    visits: Mapping[str, int]
    calls: Mapping[str, Sequence[Json]]
    milliseconds: int

    @property
    def attempts(self) -> Counter[str]:
        """How often each state's task was called."""
        return Counter({state: len(payloads) for state, payloads in self.calls.items()})


def outcome_of(execution: LocalExecution) -> Outcome:
    """The outcome of an execution, ended or not."""
    finish = execution.finish
    scheduled: dict[str, list[Json]] = {}
    entered: Counter[str] = Counter()
    for one in _family(execution):
        entered.update(_path(one))
        for task in one.scheduled:
            scheduled.setdefault(task.state, []).append(task.payload.value)
    started = execution.state.info.started_at
    return Outcome(
        Status.RUNNING if finish is None else finish.status,
        None if finish is None or finish.output is None else finish.output.value,
        None if finish is None else finish.error,
        None if finish is None else finish.cause,
        None if finish is None else finish.state,
        _path(execution),
        dict(entered),
        scheduled,
        (execution.now if finish is None else finish.stopped_at) - started,
    )


def _family(execution: LocalExecution) -> Iterator[LocalExecution]:
    yield execution
    for child in execution.children:
        yield from _family(child)


def _path(execution: LocalExecution) -> tuple[str, ...]:
    entered = (event for _, event in execution.history if event.type.endswith("StateEntered"))
    return tuple(str((event.details or {})["name"]) for event in entered)


class Problem(NamedTuple):
    """One way in which an outcome is not what was expected; `lines` say more."""

    message: str
    lines: tuple[str, ...] = ()


def judge(expect: Expectation, outcome: Outcome) -> list[Problem]:
    """Everything that is not as expected; where nothing is expected, an execution must succeed."""
    problems = [*_status(expect, outcome), *_data(expect, outcome)]
    if expect.path is not None and expect.path != outcome.path:
        problems.append(
            Problem(
                "The states entered are others", (f"expected {_names(expect.path)}", f"actual   {_names(outcome.path)}")
            )
        )
    for state, count in expect.visits.items():
        entered = outcome.visits.get(state, 0)
        if entered != count:
            problems.append(Problem(f"The state {state!r} was entered {_times(entered)}, expected {_times(count)}"))
    for state, count in expect.attempts.items():
        if outcome.attempts[state] != count:
            found = _times(outcome.attempts[state])
            problems.append(Problem(f"The task of {state!r} was called {found}, expected {_times(count)}"))
    for state, wanted in expect.calls.items():
        given = outcome.calls.get(state, ())
        if len(given) != len(wanted):
            problems.append(
                Problem(f"The task of {state!r} was called {_times(len(given))}, expected {_times(len(wanted))}")
            )
        for index, (one, other) in enumerate(zip(wanted, given, strict=False)):
            lines = tuple(differences(one, other, contains=True))
            if lines:
                problems.append(
                    Problem(f"What the task of {state!r} was given (call {index}) is something else", _few(lines))
                )
    return problems + _time(expect, outcome)


def _status(expect: Expectation, outcome: Outcome) -> Iterator[Problem]:
    wanted = expect.status or (None if expect.fails else Status.SUCCEEDED)
    right = outcome.status is not Status.SUCCEEDED if wanted is None else outcome.status is wanted
    if not right:
        where = f" in {outcome.failed_state!r}" if outcome.failed_state else ""
        lines = [f"error: {outcome.error}"] if outcome.error is not None else []
        lines += [f"cause: {_short(outcome.cause)}"] if outcome.cause is not None else []
        if not expect.given:
            lines.append("A case without Expect must succeed; say in a test file what it is to come to.")
        yield Problem(f"The execution {outcome.status}{where}, expected {wanted or 'a failure'}", tuple(lines))


def _data(expect: Expectation, outcome: Outcome) -> Iterator[Problem]:
    ended_well = outcome.status is Status.SUCCEEDED
    if expect.has_output and ended_well:
        lines = tuple(differences(expect.output, outcome.output))
        if lines:
            yield Problem("The output is something else", _few(lines))
    if expect.has_output_contains and ended_well:
        lines = tuple(differences(expect.output_contains, outcome.output, contains=True))
        if lines:
            yield Problem("The output does not contain what is expected", _few(lines))
    if ended_well:
        return
    for name, wanted, actual in (
        ("error", expect.error, outcome.error),
        ("cause", expect.cause, outcome.cause),
        ("state it failed in", expect.failed_state, outcome.failed_state),
    ):
        if wanted is not None and wanted != actual:
            yield Problem(f"The {name} is another", (f"expected {_short(wanted)}", f"actual   {_short(actual)}"))
    if expect.cause_contains is not None and expect.cause_contains not in (outcome.cause or ""):
        yield Problem(
            "The cause does not contain what is expected",
            (f"expected {_short(expect.cause_contains)}", f"actual   {_short(outcome.cause)}"),
        )


def _time(expect: Expectation, outcome: Outcome) -> list[Problem]:
    if expect.seconds is None:
        return []
    least, most = expect.seconds
    took = duration(outcome.milliseconds)
    if least is not None and outcome.milliseconds < 1000 * least:
        return [
            Problem(
                f"It took {took} of virtual time, expected {'' if least == most else 'at least '}{duration(1000 * least)}"
            )
        ]
    if most is not None and outcome.milliseconds > 1000 * most:
        return [
            Problem(
                f"It took {took} of virtual time, expected {'' if least == most else 'at most '}{duration(1000 * most)}"
            )
        ]
    return []


def differences(expected: Json, actual: Json, *, contains: bool = False, place: str = "") -> Iterator[str]:
    """A line for each place where two values differ, as a JSON pointer. With `contains`, objects may have more members."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name, value in expected.items():
            pointer = f"{place}/{escape_pointer(name)}"
            if name in actual:
                yield from differences(value, actual[name], contains=contains, place=pointer)
            else:
                yield f"{pointer}: missing, expected {_short(value)}"
        if not contains:
            for name in actual:
                if name not in expected:
                    yield f"{place}/{escape_pointer(name)}: unexpected {_short(actual[name])}"
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield f"{place or '/'}: {len(actual)} items, expected {len(expected)}"
        for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
            yield from differences(one, other, contains=contains, place=f"{place}/{index}")
    elif isinstance(expected, bool) is not isinstance(actual, bool) or expected != actual:
        yield f"{place or '/'}: expected {_short(expected)}, got {_short(actual)}"


def _few(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - SHOWN_DIFFERENCES
    return (*lines[:SHOWN_DIFFERENCES], f"... and {more} more") if more > 0 else tuple(lines)


def _short(value: Json) -> str:
    text = write_text(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _names(names: Sequence[str]) -> str:
    return " → ".join(names) or "(none)"


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


# -- reading -------------------------------------------------------------------------------------------------------------


def read_expectation(notes: Notes, types: Mapping[str, StateType], value: Json, place: str) -> Expectation:
    """An `Expect` member; what is wrong with it goes into the notes. `types` are those of the definition's states, by name."""
    return _Reader(notes, types).read(value, place)


class _Reader:
    def __init__(self, notes: Notes, types: Mapping[str, StateType]) -> None:
        self._notes = notes
        self._types = types

    def read(self, value: Json, place: str) -> Expectation:
        notes = self._notes
        given = notes.object(value, place, "Expect")
        notes.known(given, place, EXPECT_MEMBERS, "Expect")
        status = given.get("Status")
        if status is not None and status not in list(Status)[1:]:
            notes.error(
                f"{place}/Status", f"{status!r} is no status an execution ends with", near("", list(Status)[1:])
            )
            status = None
        texts = {
            member: notes.text(given[member], f"{place}/{member}", member)
            for member in ("Error", "Cause", "CauseContains", "FailedState")
            if member in given
        }
        if texts.get("FailedState") is not None:
            self._state(texts["FailedState"] or "", f"{place}/FailedState")
        return Expectation(
            status=None if status is None else Status(status),
            output=given.get("Output"),
            has_output="Output" in given,
            output_contains=given.get("OutputContains"),
            has_output_contains="OutputContains" in given,
            error=texts.get("Error"),
            cause=texts.get("Cause"),
            cause_contains=texts.get("CauseContains"),
            failed_state=texts.get("FailedState"),
            path=self._path(given, place),
            visits=self._counts(given, "Visits", place),
            attempts=self._counts(given, "Attempts", place, tasks=True),
            calls=self._calls(given, place),
            seconds=self._seconds(given, place),
            given=bool(given),
        )

    def _state(self, name: str, place: str, *, task: bool = False) -> None:
        if name not in self._types:
            self._notes.error(place, f"The definition has no state {name!r}", near(name, self._types))
        elif task and self._types[name] is not StateType.TASK:
            self._notes.error(place, f"{name!r} is no Task state")

    def _path(self, given: Mapping[str, Json], place: str) -> tuple[str, ...] | None:
        if "Path" not in given:
            return None
        names = given["Path"]
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            self._notes.error(f"{place}/Path", "Path must be an array of names of states")
            return None
        for index, name in enumerate(names):
            self._state(str(name), f"{place}/Path/{index}")
        return tuple(map(str, names))

    def _counts(self, given: Mapping[str, Json], member: str, place: str, *, tasks: bool = False) -> dict[str, int]:
        counts = {}
        place = f"{place}/{member}"
        for name, count in self._notes.object(given.get(member, {}), place, member).items():
            pointer = f"{place}/{escape_pointer(name)}"
            self._state(name, pointer, task=tasks)
            if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
                counts[name] = count
            else:
                self._notes.error(pointer, "How often must be a whole number, 0 or more")
        return counts

    def _calls(self, given: Mapping[str, Json], place: str) -> dict[str, Sequence[Json]]:
        calls: dict[str, Sequence[Json]] = {}
        place = f"{place}/Calls"
        for name, wanted in self._notes.object(given.get("Calls", {}), place, "Calls").items():
            pointer = f"{place}/{escape_pointer(name)}"
            self._state(name, pointer, task=True)
            if isinstance(wanted, list):
                calls[name] = wanted
            else:
                self._notes.error(pointer, "Calls must be an array, one value for each time the task is called")
        return calls

    def _seconds(self, given: Mapping[str, Json], place: str) -> tuple[float | None, float | None] | None:
        if "DurationSeconds" not in given:
            return None
        value, place = given["DurationSeconds"], f"{place}/DurationSeconds"
        if not isinstance(value, dict):
            number = self._notes.number(value, place, "DurationSeconds")
            return (number, number)
        self._notes.known(value, place, ("AtLeast", "AtMost"), "DurationSeconds")
        least, most = (
            self._notes.number(value[member], f"{place}/{member}", member) if member in value else None
            for member in ("AtLeast", "AtMost")
        )
        return (least, most)
