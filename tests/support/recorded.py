"""Recorded executions of AWS, run in memory: the world answers each task with what the recording says.

The cases stay where they are; the comparer is theirs.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from stepwell.api.wire import shapes
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import ScheduleTask
from stepwell.engine.machine.events import Event
from tests.support.local_machine import LocalMachine, info_of

_ENDS = ("TaskSucceeded", "TaskFailed")

Case = Mapping[str, Any]
AwsEvent = Mapping[str, Any]

_STAGES = {"ScheduleFailed": "schedule", "StartFailed": "start", "SubmitFailed": "submit", "Failed": "run"}


def load_runner(folder: Path) -> ModuleType:
    """The runner that came with the cases, for its comparer."""
    spec = importlib.util.spec_from_file_location("run_asl", folder / "run_asl.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases(folder: Path) -> Iterator[Case]:
    """The executions that are of type STANDARD and begin with StartExecution."""
    for file in sorted((folder / "asl").glob("*.json")):
        for case in json.loads(file.read_text()):
            text = json.dumps(case.get("definition"))
            if (
                case["kind"] == "execution"
                and case.get("start") == "StartExecution"
                and (case.get("type") or "STANDARD") == "STANDARD"
                and ("DISTRIBUTED" not in text or not case["needs"])  # what children's tasks gave is not recorded
                and not case.get("suspect")
                and not case.get("time_dependent")
                and case["expected"].get("status") != "UNKNOWN"
            ):
                yield case


def recorded_history(case: Case) -> list[AwsEvent] | None:
    """The recorded events, if the case has them."""
    path = case["expected"].get("history")
    if path is None:
        return None
    at = case["expected"]["snapshot"]
    for key in path:
        at = at[key]
    return list(at)


def details(event: AwsEvent) -> Mapping[str, Any]:
    """The details member of an event."""
    return next((value for key, value in event.items() if key.endswith("EventDetails")), {})


def _payload(text: str) -> msgspec.Raw:
    try:
        json.loads(text)
    except ValueError:
        text = json.dumps(text)
    return msgspec.Raw(text.encode())


class Recording:
    """Answers tasks with the outcomes of a recording, in the recorded order."""

    def __init__(self, case: Case, comparer: Any) -> None:
        self._history = recorded_history(case) or []
        self._case, self._comparer = case, comparer
        self._left = [event for event in self._history if event["type"].endswith("Scheduled")]
        # Recordings hold JSON texts parsed; how they were spelt shows only where one stands inside another.
        spelt_compactly = r"\"errorMessage\":\"" in json.dumps(self._history)
        self._separators = (",", ":") if spelt_compactly else (", ", ": ")

    def __call__(self, task: ScheduleTask) -> Iterable[Event]:
        scheduled = self._match(task)
        if scheduled is None:
            return ()
        self._left.remove(scheduled)
        return [event for _, event in self._outcome(task.task, scheduled)]

    def _text(self, value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=self._separators)

    def _match(self, task: ScheduleTask) -> AwsEvent | None:
        sent = json.loads(task.payload.text)
        for event in self._left:
            wanted = details(event).get("parameters", details(event).get("input"))
            if self._comparer(self._case).same(wanted, sent, loose=True):
                return event
        return self._left[0] if self._left else None

    def _following(self, scheduled: AwsEvent) -> list[AwsEvent]:
        if not isinstance(scheduled["id"], int):  # sorted inside a Parallel, ids lost: outcomes stand in the same order
            kind = details(scheduled).get("resourceType")
            ends = [e for e in self._history if e["type"] in _ENDS and details(e).get("resourceType") == kind]
            place = [e for e in self._history if e["type"] == scheduled["type"]].index(scheduled)
            return ends[place : place + 1]
        chain, last = [], scheduled["id"]
        family = scheduled["type"].removesuffix("Scheduled")
        for event in self._history:
            if event["previousEventId"] == last and event["type"].startswith(family) and "State" not in event["type"]:
                chain.append(event)
                last = event["id"]
                if not event["type"].endswith(("Started", "Submitted")):
                    break
        return chain

    def _outcome(self, task: int, scheduled: AwsEvent) -> Iterator[tuple[Any, Event]]:
        for event in self._following(scheduled):
            found = details(event)
            type_: str = event["type"]
            if type_ == "ActivityStarted":
                yield event["id"], events.TaskStarted(task, found.get("workerName"))
            elif type_.endswith("Submitted"):
                yield event["id"], events.TaskSubmitted(task, _payload(self._text(found["output"])))
            elif type_.endswith("Succeeded"):
                yield event["id"], events.TaskSucceeded(task, _payload(self._text(found["output"])))
            else:
                for suffix, stage in _STAGES.items():
                    if type_.endswith(suffix):
                        cause = found.get("cause")
                        yield (
                            event["id"],
                            events.TaskFailed(
                                task, found.get("error"), None if cause is None else self._text(cause), stage
                            ),
                        )
                        break


def run_case(case: Case, runner: ModuleType) -> tuple[LocalMachine, dict[str, Any]]:
    """Run a case in memory: the execution, and its DescribeExecution answer as far as the machine knows it."""
    definition = case["definition"]
    text = definition if isinstance(definition, str) else json.dumps(definition)
    world = Recording(case, runner.Comparer)
    name = case.get("execution_name") or "exec-0-0"
    machine = LocalMachine(text, case.get("input") or "{}", world=world, info=info_of("corpus-0", name)).run()
    answer: dict[str, Any] = {"status": machine.finish.status.value if machine.finish else "RUNNING"}
    if machine.finish is not None:
        if machine.finish.output is not None:
            answer["output"] = machine.finish.output.text.decode()
        if machine.finish.error is not None:
            answer["error"] = machine.finish.error
        if machine.finish.cause is not None:
            answer["cause"] = machine.finish.cause
    return machine, answer


def compare(case: Case, runner: ModuleType) -> dict[str, Any]:
    """Levels one to three of a case, and what differs."""
    machine, answer = run_case(case, runner)
    expected = case["expected"]
    comparer = runner.Comparer(case)
    result: dict[str, Any] = {"L1": runner.Runner.level1(comparer, expected, answer), "L2": None, "L3": None}
    result["diffs"] = comparer.diffs
    want = recorded_history(case)
    if want is None:
        return result
    got: list[dict[str, Any]] = [dict(shapes.event(id, event, data=True)) for id, event in enumerate(machine.seen, 1)]
    if any(item["kind"] == "SfnNoneRecursiveParallelTransformer" for item in case["transformers"]):
        if not any(event.get("type") == "ParallelStateSucceeded" for event in want):
            got = [event for event in got if event.get("type") != "ParallelStateSucceeded"]
        got = runner.reorder(want, got, case)
    labels = [runner.event_label(event) for event in want], [runner.event_label(event) for event in got]
    result["L2"] = runner.Comparer(case).same(*labels)
    comparer = runner.Comparer(case)
    result["L3"] = comparer.same(want, got)
    result["diffs3"] = comparer.diffs
    if not result["L2"]:
        result["types"] = labels
    return result
