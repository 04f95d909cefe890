from __future__ import annotations

import msgspec
import pytest

from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.snapshot import Delta, Phase, fold
from tests.support.local_machine import LocalMachine, raw
from tests.unit.machine.build import CALLBACK, machine, map_, parallel, pass_, task


def deltas(run: LocalMachine) -> list[Delta]:
    found = [chunks.decode(data).delta for data in run.chunks]
    return [delta for delta in found if delta is not None]


def test_a_delta_does_not_grow_with_the_frames_that_are_open_or_done() -> None:
    items = [{"number": number, "text": "x" * 200} for number in range(1000)]
    input = msgspec.json.encode({"items": items}).decode()
    run = LocalMachine(machine(map_(task())), input).start()
    for _ in range(len(items)):
        run.apply(events.TaskSucceeded(min(run.tasks), raw({"result": "y" * 200})))
    sizes = run.delta_bytes()[1:-1]
    assert len(sizes) == 999 and max(sizes) < 1024
    assert sizes[900] <= sizes[100] + 20  # longer numbers


def test_a_delta_does_not_grow_with_the_data_or_the_variables() -> None:
    big = "x" * 100_000
    states = [pass_(Assign={"big.$": "$"}), *[task(ResultPath=None) for _ in range(3)]]
    run = LocalMachine(machine(*states), f'"{big}"').start()
    for number in (1, 2, 3):
        run.apply(events.TaskSucceeded(number, raw(1)))
    sizes = run.delta_bytes()
    assert sizes[0] > 100_000  # where the variable is set
    assert max(sizes[1:]) < 512


def test_variables_survive_though_they_are_written_once() -> None:
    run = LocalMachine(machine(pass_(Assign={"x": 1}), task(), task(), pass_(Parameters={"x.$": "$x"}))).start()
    run.apply(events.TaskSucceeded(1, raw(1)))
    run.crash()
    run.apply(events.TaskSucceeded(2, raw(1)))
    assert run.output == {"x": 1}


@pytest.mark.parametrize("full", (False, True))
def test_what_is_folded_is_what_is_there(full: bool) -> None:
    run = LocalMachine(machine(parallel(task(TimeoutSeconds=5), task(), map_(task()))), '{"items": [1, 2]}')
    run.commit_steps = False
    run.start()
    run.apply(events.TaskSucceeded(2, raw("two")))
    run.commit(full=full)
    folded = fold(deltas(run))
    assert set(folded.frames) == set(run.state.frames)
    assert folded.timers == run.state.timers
    phases = [record.phase for _, record in sorted(folded.frames.items())]
    assert phases == [Phase.JOIN, Phase.TASK, Phase.DONE, Phase.JOIN, Phase.TASK, Phase.TASK]


def test_folding_begins_with_the_last_whole_position() -> None:
    run = LocalMachine(machine(map_(task(), MaxConcurrency=1)), '{"items": [1, 2, 3]}').start()
    run.commit_steps = False
    run.apply(events.TaskSucceeded(1, raw(1)))
    run.commit(full=True)
    run.commit_steps = True
    run.apply(events.TaskSucceeded(2, raw(2)))
    every = deltas(run)
    assert fold(every[1:]) == fold(every)
    with pytest.raises(ValueError):
        fold([])


def test_a_whole_position_replaces_what_was_there_before() -> None:
    run = LocalMachine(machine(parallel(task(TimeoutSeconds=5), task()), task())).start()
    run.commit_steps = False
    run.apply(events.TaskSucceeded(1, raw(1)))
    run.apply(events.TaskSucceeded(2, raw(2)))
    run.commit(full=True)
    folded = fold(deltas(run))
    assert set(folded.frames) == {0} and folded.timers == {}


def test_a_restored_task_keeps_its_secret_and_its_timers() -> None:
    parameters = {"QueueUrl": "http://q", "MessageBody.$": "$$.Task.Token"}
    run = LocalMachine(machine(task(CALLBACK, Parameters=parameters, TimeoutSeconds=60, HeartbeatSeconds=5))).start()
    before = run.state.root.task
    run.crash()
    assert run.state.root.task == before and before is not None
    assert run.tasks[1].secret == before.secret != b""
    run.apply(events.TaskSucceeded(1, raw(1)))
    assert run.timers == {}
