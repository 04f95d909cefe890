"""What happens to an execution and to those that come of it: outcomes of tasks, timers early and late, heartbeats missed, stops,
redrives, new bounds of Map Runs, and events that come twice or too late. Each is drawn among what may happen at that moment."""

from __future__ import annotations

from stepwell.engine.asl.resources import IntegrationPattern, Resource
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.map_events import ChildFinished, MapRunStopped
from stepwell.engine.machine.map_run import ItemStatus
from tests.properties.chance import Chance
from tests.properties.families import Family, Happening, Member, NewBounds
from tests.support.local_machine import raw

RESULTS: tuple[Json, ...] = (
    {"n": 5, "got": {"er": 1}},
    ["not", "an", "object"],
    "text",
    None,
    {"items": [1, 2, 3]},
)
TOO_LARGE = raw("x" * 262_200)
FAILURES: dict[str | None, int] = {
    "Busy": 30, "Broken": 30, "States.Timeout": 8, "States.TaskFailed": 8, "Unheard.Of": 8, "States.Runtime": 2,
    "States.DataLimitExceeded": 3, "States.Permissions": 3, None: 4,
}  # fmt: skip


def next_happening(chance: Chance, family: Family) -> Happening:
    """What happens next to an execution or to one of those that came of it."""
    happening = _any_happening(chance, family)
    return happening._replace(hasty=True) if family.map_runs and chance.often(15) else happening


def _any_happening(chance: Chance, family: Family) -> Happening:
    if family.root.finish is not None:
        return _afterwards(chance, family.root)
    if family.map_runs and chance.often(6):
        return _to_map_run(chance, family)
    member = _somebody(chance, family)
    member.now = max(member.now, family.now)
    return _next(chance, member)._replace(who=member.path)


def _somebody(chance: Chance, family: Family) -> Member:
    """One of those that have not ended: mostly one that waits for something, if there is one."""
    alive = list(family.alive())
    if len(alive) == 1:
        return alive[0]
    return alive[chance.weighted({at: 8 if one.tasks or one.timers else 1 for at, one in enumerate(alive)})]


def _next(chance: Chance, machine: Member) -> Happening:
    kinds = {"timer": 30, "stale": 8, "stop": 2, "poison": 1, "nothing": 3}
    if machine.tasks:
        kinds["answer"] = 65
    if not machine.timers:
        del kinds["timer"]
    match chance.weighted(kinds):
        case "answer":
            task = chance.pick(sorted(machine.tasks))
            return Happening(_soon(chance, machine), _answer(chance, task, machine.tasks[task].resource))
        case "timer":
            return _timer(chance, machine)
        case "stale":
            return Happening(machine.now, _stale(chance, machine))
        case "stop":
            return Happening(_soon(chance, machine), events.StopRequested("Stopped", chance.pick(("by hand", None))))
        case "poison":
            return Happening(machine.now, events.Poisoned("cannot be written"))
        case _:
            return Happening(_soon(chance, machine), events.Continued())


def _to_map_run(chance: Chance, family: Family) -> Happening:
    """A Map Run is changed, or told what it knows already or what does not concern it."""
    id = chance.pick(list(family.map_runs))
    row = family.map_runs[id]
    ended = [item.number for item in row.items.values() if item.status is not ItemStatus.RUNNING]
    event: NewBounds | ChildFinished | MapRunStopped
    if row.status is Status.RUNNING or not family.settled:
        event = NewBounds(chance.pick((None, 1, 2, 5)), chance.pick((None, 0, 3)))
    else:
        event = MapRunStopped()
    if chance.often(40):
        event = ChildFinished(chance.pick([99, *ended]), chance.pick((Status.FAILED, Status.SUCCEEDED)), family.now)
    return Happening(family.now, event, family.parent(id).path, row.new.number)


def _soon(chance: Chance, machine: Member) -> int:
    """Now, a little later, or so late that timers are overdue."""
    return machine.now + chance.pick((0, 0, 0, 1, 250, 700, 1500))


def _answer(chance: Chance, task: int, resource: Resource) -> Event:
    kinds = {"succeeds": 60, "fails": 20, "starts": 6, "silent": 2, "stage": 5, "large": 1}
    if resource.pattern is not IntegrationPattern.REQUEST_RESPONSE:
        kinds["submitted"] = 12
    match chance.weighted(kinds):
        case "succeeds":
            return events.TaskSucceeded(task, raw(chance.pick(RESULTS)))
        case "fails":
            return events.TaskFailed(task, chance.weighted(FAILURES), chance.pick(("a cause", None)))
        case "starts":
            return events.TaskStarted(task, chance.pick(("worker-1", None)))
        case "submitted":
            return events.TaskSubmitted(task, raw({"id": 1}))
        case "silent":
            return events.HeartbeatMissed(task)
        case "stage":
            return events.TaskFailed(task, "Never", None, chance.pick(("schedule", "start", "submit")))
        case _:
            return events.TaskSucceeded(task, TOO_LARGE)


def _timer(chance: Chance, machine: Member) -> Happening:
    """The timer that is due first fires, or, because all are late, another one."""
    due, timer = min((due, timer) for timer, due in machine.timers.items())
    if chance.often(15):
        timer = chance.pick(sorted(machine.timers))
        due = machine.timers[timer]
    late = chance.pick((0, 0, 3, 900))
    return Happening(max(machine.now, due) + late, events.TimerFired(timer))


def _stale(chance: Chance, machine: Member) -> Event:
    """What concerns a task or timer of any number: closed, taken back, not there yet, never there; or the execution at a
    moment when it means nothing."""
    task = chance.whole(0, machine.state.next_task)
    timer = chance.whole(0, machine.state.next_timer)
    if task in machine.tasks or task in machine.state.map_runs or timer in machine.timers:
        task, timer = -1, -1
    stale: tuple[Event, ...] = (
        events.TaskSucceeded(task, raw([])),
        events.TaskFailed(task, "Late", None),
        events.TimerFired(timer),
        events.TaskStarted(task, "worker-2"),
        events.TaskSubmitted(task, raw({})),
        events.HeartbeatMissed(task),
        events.MapRunFinished(task, 0, raw([])),
        events.Started(raw({"again": True})),
        events.Redriven(),
    )
    return chance.pick(stale)


def _afterwards(chance: Chance, machine: Member) -> Happening:
    if chance.often(70):
        return Happening(machine.now + 1000, events.Redriven())
    if chance.often(20):
        return Happening(machine.now, events.StopRequested())
    return Happening(machine.now, _stale(chance, machine))


def in_calm(family: Family) -> Happening | None:
    """What happens when the outside does its part: the first open task succeeds, else the first timer fires; None: nothing, for
    it has ended."""
    if family.root.finish is not None:
        return None
    for member in family.alive():
        if member.tasks:
            return Happening(family.now, events.TaskSucceeded(min(member.tasks), raw({"n": 5})), member.path)
    timers = [(due, member.path, timer) for member in family.alive() for timer, due in member.timers.items()]
    if timers:
        due, path, timer = min(timers)
        return Happening(max(family.now, due), events.TimerFired(timer), path)
    return None
