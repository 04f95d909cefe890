"""Step Functions Local's `MockConfigFile.json`: read, checked whole, and turned into what answers tasks.

The format is AWS's ("Testing state machines with Step Functions Local and mocked service integrations"): `StateMachines` name,
for each of their `TestCases`, which of the `MockedResponses` a state gets; a response holds one `Return` or `Throw` for each
invocation or range of invocations, from 0. Knows definitions only as far as names of states go; how a mock becomes events of
the machine is in `runtime.mocks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Final, NamedTuple, TypeAlias

from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.asl.scanner import LineIndex, escape_pointer
from stepwell.engine.asl.source import value_offsets
from stepwell.engine.asl.states import MapState, State, StateContainer, StateType, walk_states
from stepwell.engine.errors import JsonTextError, StepwellError
from stepwell.engine.jsontypes import Json, read
from stepwell.engine.states_errors import ErrorName

_INVOCATIONS: Final = re.compile(r"(0|[1-9][0-9]{0,8})(?:-(0|[1-9][0-9]{0,8}))?")
_ANSWER_HINT: Final = 'Write {"Return": any JSON} or {"Throw": {"Error": "Name", "Cause": "text"}}.'


Places: TypeAlias = Mapping[str, tuple[int, int]]
"""Lines and columns (from 1) by JSON pointer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at one place of a file: `pointer` is an RFC 6901 JSON pointer, `line` and `column` count from 1."""

    message: str
    pointer: str = ""
    hint: str | None = None
    warning: bool = False
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = f" at {self.pointer}" if self.pointer else ""
        at = "" if self.line is None else f" (line {self.line}, column {self.column})"
        return f"{self.message.rstrip('.')}{place}{at}." + (f" {self.hint}" if self.hint else "")


class MockConfigError(StepwellError):
    """A file of mocks or tests that cannot be used. Carries every finding, in the order of the file."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


class Return(NamedTuple):
    """A mocked task's result."""

    value: Json
    after_ms: int = 0
    """Milliseconds of virtual time the task takes."""


class Throw(NamedTuple):
    """A mocked task's error; any name, those of the States Language included."""

    error: str
    cause: str | None = None
    after_ms: int = 0


MockAnswer: TypeAlias = Return | Throw


class Entry(NamedTuple):
    """The answer to the invocations `first` to `last` (counted from 0; None: all that follow)."""

    first: int
    last: int | None
    answer: MockAnswer
    pointer: str = ""

    @property
    def invocations(self) -> str:
        """As the file writes them."""
        if self.last is None:
            return f"{self.first} and later"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class MockedResponse:
    """The answers to a state's invocations: those of AWS's format end, the short form's last one is given for ever."""

    name: str
    entries: tuple[Entry, ...]

    def at(self, invocation: int) -> Entry | None:
        """What answers an invocation (from 0)."""
        for entry in self.entries:
            if entry.first <= invocation and (entry.last is None or invocation <= entry.last):
                return entry
        return None

    @classmethod
    def in_order(cls, name: str, answers: Iterable[MockAnswer], pointer: str = "") -> MockedResponse:
        """One answer an invocation, the last one again and again."""
        given = list(answers)
        end = len(given) - 1
        return cls(
            name,
            tuple(
                Entry(index, None if index == end else index, answer, f"{pointer}/{index}" if end else pointer)
                for index, answer in enumerate(given)
            ),
        )


MockCase: TypeAlias = Mapping[str, MockedResponse]
"""What answers the Task states of one test case, by their names. A state that is not in it is performed for real."""


@dataclass(frozen=True, slots=True)
class MockConfig:
    """A whole file. `machines` holds test cases by machine and name; `findings` the warnings it was read with."""

    machines: Mapping[str, Mapping[str, MockCase]] = field(default_factory=dict)
    responses: Mapping[str, MockedResponse] = field(default_factory=dict)
    findings: Sequence[Finding] = ()

    def machine_for(self, name: str) -> str:
        """The file's name of a machine: a file of one machine speaks of that one, whatever it is called."""
        return next(iter(self.machines)) if name not in self.machines and len(self.machines) == 1 else name

    def case(self, machine: str, case: str) -> MockCase:
        """The mocks of a test case. Raises `MockConfigError` where there is none of that name."""
        cases = self.machines.get(machine)
        if cases is None:
            raise MockConfigError(
                [Finding(f"There is no state machine {machine!r}", "/StateMachines", near(machine, self.machines))]
            )
        if case not in cases:
            place = f"/StateMachines/{escape_pointer(machine)}/TestCases"
            raise MockConfigError([Finding(f"There is no test case {case!r}", place, near(case, cases))])
        return cases[case]


class Notes:
    """The findings of one file while it is read."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def error(self, pointer: str, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(message, pointer, hint))

    def warn(self, pointer: str, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(message, pointer, hint, warning=True))

    def object(self, value: Json, pointer: str, what: str) -> Mapping[str, Json]:
        """The value if it is an object; else it is noted and taken as empty."""
        if isinstance(value, dict):
            return value
        self.error(pointer, f"{what} must be an object")
        return {}

    def known(self, value: Mapping[str, Json], pointer: str, names: Iterable[str], what: str) -> None:
        """Note members that are not of these names."""
        names = sorted(names)
        for member in value:
            if member not in names:
                self.error(
                    f"{pointer}/{escape_pointer(member)}", f"{what} has no member {member!r}", near(member, names)
                )

    def text(self, value: Json, pointer: str, what: str) -> str | None:
        """The value if it is a string."""
        if isinstance(value, str):
            return value
        self.error(pointer, f"{what} must be a string")
        return None

    def number(self, value: Json, pointer: str, what: str) -> float | None:
        """The value if it is a number, 0 or more."""
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return value
        self.error(pointer, f"{what} must be a number, 0 or more")
        return None

    def raise_errors(self, text: str | bytes, places: Places | None = None) -> list[Finding]:
        """Raise `MockConfigError` if there are errors; the warnings otherwise. Both with their lines."""
        placed = with_places(self.findings, text, places)
        errors = [one for one in placed if not one.warning]
        if errors:
            raise MockConfigError(errors)
        return placed


def near(name: str, names: Iterable[str]) -> str:
    """A hint: the name that was meant, or those there are."""
    known = sorted(names)
    close = get_close_matches(name, known, 1)
    if close:
        return f"Did you mean {close[0]!r}?"
    if not known:
        return "There are none."
    shown = ", ".join(map(repr, known[:12]))
    return f"There {'is' if len(known) == 1 else 'are'} {shown}{', ...' if len(known) > 12 else ''}."


def read_object(text: str | bytes, what: str) -> Mapping[str, Json]:
    """The object a file holds. Raises `MockConfigError` for text that is no JSON object, or has a member twice."""
    if isinstance(text, bytes) and text.startswith(b"\xef\xbb\xbf"):
        text = text[3:]
    try:
        value = read(text)
    except JsonTextError as error:
        message = str(error).partition(" (line")[0]
        raise MockConfigError([Finding(message, line=error.line, column=error.column)]) from None
    if not isinstance(value, dict):
        raise MockConfigError([Finding(f"{what} must be a JSON object")])
    try:
        value_offsets(text if isinstance(text, str) else text.decode())
    except DefinitionError as error:
        first = error.diagnostics[0]
        message = first.message.partition("\n at [Source")[0]
        raise MockConfigError([Finding(message, line=first.line, column=first.column)]) from None
    return value


def with_places(findings: Iterable[Finding], text: str | bytes, places: Places | None = None) -> list[Finding]:
    """The findings with the line and column of what they point to, in a JSON text or by what is known of another."""
    given = list(findings)
    if places is None:
        plain = text if isinstance(text, str) else text.decode("utf-8-sig", "replace")
        lines = LineIndex(plain)
        places = {one: lines.position(offset) for one, offset in value_offsets(plain).items()} if given else {}
    placed = []
    for finding in given:
        pointer = finding.pointer
        while pointer and pointer not in places:
            pointer = pointer.rpartition("/")[0]
        line, column = places.get(pointer, (1, 1))
        placed.append(replace(finding, line=line, column=column))
    return placed


# -- the file ------------------------------------------------------------------------------------------------------------


def parse_mock_config(text: str | bytes) -> MockConfig:
    """Read a MockConfigFile. Raises `MockConfigError` with everything that is wrong with it."""
    notes = Notes()
    value = read_object(text, "A MockConfigFile")
    for name in value:
        if name not in ("StateMachines", "MockedResponses", "Comment"):
            notes.warn(
                f"/{escape_pointer(name)}", f"The member {name!r} is not known", near(name, _TOP) + " It is ignored."
            )
    for name in _TOP:
        if name not in value:
            notes.error("", f"The member {name!r} is missing")
    responses = read_responses(notes, value.get("MockedResponses", {}), "/MockedResponses")
    machines = _machines(notes, value.get("StateMachines", {}), responses)
    used = {response.name for cases in machines.values() for case in cases.values() for response in case.values()}
    for name in responses:
        if name not in used:
            notes.warn(f"/MockedResponses/{escape_pointer(name)}", f"No test case uses the response {name!r}")
    return MockConfig(machines, responses, notes.raise_errors(text))


_TOP: Final = ("MockedResponses", "StateMachines")


def _machines(
    notes: Notes, value: Json, responses: Mapping[str, MockedResponse]
) -> dict[str, dict[str, dict[str, MockedResponse]]]:
    found: dict[str, dict[str, dict[str, MockedResponse]]] = {}
    for name, machine in notes.object(value, "/StateMachines", "StateMachines").items():
        place = f"/StateMachines/{escape_pointer(name)}"
        fields = notes.object(machine, place, f"The state machine {name!r}")
        notes.known(fields, place, ("TestCases", "Comment"), "A state machine")
        if isinstance(machine, dict) and "TestCases" not in machine:
            notes.error(place, f"The state machine {name!r} has no TestCases")
        cases = notes.object(fields.get("TestCases", {}), f"{place}/TestCases", "TestCases")
        found[name] = {
            case: read_case(
                notes, mocks, f"{place}/TestCases/{escape_pointer(case)}", f"The test case {case!r}", responses
            )
            for case, mocks in cases.items()
        }
    return found


def read_case(
    notes: Notes, value: Json, place: str, what: str, responses: Mapping[str, MockedResponse], *, inline: bool = False
) -> dict[str, MockedResponse]:
    """The mocks of a test case: names of states to names of responses; with `inline`, responses may stand there themselves."""
    case: dict[str, MockedResponse] = {}
    for state, given in notes.object(value, place, what).items():
        pointer = f"{place}/{escape_pointer(state)}"
        if isinstance(given, str):
            if given in responses:
                case[state] = responses[given]
            else:
                notes.error(pointer, f"There is no mocked response {given!r}", near(given, responses))
        elif inline:
            response = read_response(notes, given, pointer, state, short=True)
            if response is not None:
                case[state] = response
        else:
            notes.error(pointer, f"The mock of the state {state!r} must be the name of a mocked response")
    return case


def read_responses(notes: Notes, value: Json, place: str, *, short: bool = False) -> dict[str, MockedResponse]:
    """The responses by name; with `short`, those in the short form too."""
    found: dict[str, MockedResponse] = {}
    for name, given in notes.object(value, place, "MockedResponses").items():
        response = read_response(notes, given, f"{place}/{escape_pointer(name)}", name, short=short)
        # Of a faulty one the name is known, so that its users are not reported as well.
        found[name] = response or MockedResponse(name, ())
    return found


def read_response(notes: Notes, value: Json, place: str, name: str, *, short: bool = False) -> MockedResponse | None:
    """One response: an object of invocations; with `short` also one answer, or a list of them."""
    if short and isinstance(value, dict) and value and not any(_INVOCATIONS.fullmatch(key) for key in value):
        value = [value]
        answers = [_answer(notes, value[0], place, timed=True)]
        return None if answers[0] is None else MockedResponse.in_order(name, [answers[0]], place)
    if short and isinstance(value, list):
        if not value:
            notes.error(place, f"{name!r} has no answers", _ANSWER_HINT)
        answers = [_answer(notes, one, f"{place}/{index}", timed=True) for index, one in enumerate(value)]
        given = [one for one in answers if one is not None]
        return MockedResponse.in_order(name, given, place) if given and len(given) == len(answers) else None
    if not isinstance(value, dict):
        notes.error(
            place, f"The mocked response {name!r} must be an object of invocations", 'Say {"0": {"Return": ...}}.'
        )
        return None
    return _by_invocation(notes, value, place, name, timed=short)


def _by_invocation(
    notes: Notes, value: Mapping[str, Json], place: str, name: str, *, timed: bool
) -> MockedResponse | None:
    entries: list[Entry] = []
    before = len(notes.findings)
    if not value:
        notes.error(place, f"The mocked response {name!r} is empty", 'Say {"0": {"Return": ...}}.')
    for key, given in value.items():
        pointer = f"{place}/{escape_pointer(key)}"
        match = _INVOCATIONS.fullmatch(key)
        answer = _answer(notes, given, pointer, timed=timed)
        if match is None:
            notes.error(
                pointer,
                f"{key!r} names no invocations",
                'Say "0" for the first, or "1-2" for the second and the third.',
            )
            continue
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            notes.error(pointer, f"The invocations {key!r} end before they begin")
        elif answer is not None:
            entries.append(Entry(first, last, answer, pointer))
    entries.sort()
    if len(notes.findings) == before:
        _check_sequence(notes, entries, name)
    return MockedResponse(name, tuple(entries)) if len(notes.findings) == before else None


def _check_sequence(notes: Notes, entries: Sequence[Entry], name: str) -> None:
    """Invocations begin at 0 and leave none out; none is there twice."""
    expected = 0
    for entry in entries:
        if entry.first < expected:
            notes.error(entry.pointer, f"The invocation {entry.first} of {name!r} is given twice")
        elif entry.first > expected:
            missing = str(expected) if entry.first == expected + 1 else f"{expected}-{entry.first - 1}"
            notes.error(
                entry.pointer,
                f"The invocations of {name!r} leave out {missing}",
                "Invocations are counted from 0, retries included, without gaps.",
            )
        assert entry.last is not None
        expected = max(expected, entry.last + 1)


def _answer(notes: Notes, value: Json, place: str, *, timed: bool) -> MockAnswer | None:
    kinds = ("Return", "Throw")
    if not isinstance(value, dict) or sum(kind in value for kind in kinds) != 1:
        notes.error(place, "An answer must have one of Return and Throw", _ANSWER_HINT)
        return None
    notes.known(value, place, (*kinds, "AfterSeconds") if timed else kinds, "An answer")
    after = notes.number(value.get("AfterSeconds", 0), f"{place}/AfterSeconds", "AfterSeconds") if timed else 0
    delay = int(1000 * (after or 0))
    if "Return" in value:
        return Return(value["Return"], delay)
    thrown, pointer = value["Throw"], f"{place}/Throw"
    if not isinstance(thrown, dict):
        notes.error(pointer, "Throw must be an object", 'Say {"Error": "Name", "Cause": "text"}.')
        return None
    notes.known(thrown, pointer, ("Cause", "Error"), "Throw")
    if "Error" not in thrown:
        notes.error(pointer, "Throw has no Error", "Name the error: Retry and Catch go by it.")
        return None
    error = notes.text(thrown["Error"], f"{pointer}/Error", "Error")
    cause = None if "Cause" not in thrown else notes.text(thrown["Cause"], f"{pointer}/Cause", "Cause")
    if error == ErrorName.ALL:
        notes.error(
            f"{pointer}/Error", f"No error is named {ErrorName.ALL}", "It stands for all errors in Retry and Catch."
        )
    return None if error is None else Throw(error, cause, delay)


# -- against a definition ------------------------------------------------------------------------------------------------


def check_case(machine: StateContainer, case: Iterable[str], place: str) -> list[Finding]:
    """What is wrong with the names of a test case's states; `place` points to the case."""
    states = {state.name: state for state in walk_states(machine)}
    mockable = [name for name, state in states.items() if is_mockable(state)]
    findings = []
    for name in case:
        pointer = f"{place}/{escape_pointer(name)}"
        if name not in states:
            findings.append(Finding(f"The definition has no Task state {name!r}", pointer, near(name, mockable)))
        elif name not in mockable:
            findings.append(
                Finding(
                    f"{name!r} is a {states[name].type} state",
                    pointer,
                    "Only what a Task performs can be mocked, and what the ItemReader of a Map reads.",
                )
            )
    return findings


def is_mockable(state: State) -> bool:
    """Whether a mock can answer for the state: a Task, or a Map that reads its items from somewhere."""
    return state.type is StateType.TASK or (isinstance(state, MapState) and state.item_reader is not None)
