"""Every case of `asl_examples/`, run by the machine in memory: the HTTP target and the stand-ins are real, waits take no time.

Functions and Celery tasks are called where they stand; the acceptance tests run them in their workers.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
import pytest

from asl_examples.stand_ins.server import DEFAULT_URL, StandIns
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.machine.commands import ScheduleTask, Status
from stepwell.engine.machine.events import Event, TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.runtime.local import LocalExecution, Script
from stepwell.engine.runtime.local_maps import ReadItems
from stepwell.engine.targets.http import HttpTarget
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.objects import FileBuckets
from stepwell.workers.functions import FunctionTable
from stepwell.workers.results import error_name
from tests.conftest import ROOT
from tests.targets.servers import ConnectionShelf

EXAMPLES = ROOT / "asl_examples"
CASES = [
    pytest.param(folder, case, id=f"{folder.name}-{case or 'input'}")
    for folder in sorted(each.parent for each in EXAMPLES.glob("*/definition.asl.json"))
    for case in sorted(file.name[6:-5] for file in folder.glob("input.*json"))
]


def read(folder: Path, kind: str, case: str) -> Any:
    return json.loads((folder / f"{kind}.{case}.json".replace("..", ".")).read_text())


@dataclass
class Desk:
    """Performs the tasks of one example."""

    setup: dict[str, Any]
    target: HttpTarget
    stand_ins: StandIns
    answers: list[dict[str, Any]]
    performed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.functions = FunctionTable([self.setup["functions"]] if "functions" in self.setup else [])
        modules = [self.setup[key] for key in ("tasks",) if key in self.setup]
        modules += [app["tasks"] for app in self.setup.get("celery_apps", ())]
        self.tasks: dict[str, Any] = {}
        for module in map(importlib.import_module, modules):
            self.tasks |= {each.name: each for each in vars(module).values() if hasattr(each, "delay")}

    async def perform(self, execution: LocalExecution, task: ScheduleTask) -> list[Event]:
        self.performed.append(task.state)
        if task.resource.kind is TargetKind.HTTP:
            result = await self.target.perform(execution.request(task))
            assert result is not None
            return [result, self._decision(task)] if isinstance(result, TaskSubmitted) else [result]
        value: Any = task.payload.value
        if task.resource.kind is TargetKind.CELERY:
            name, _, query = task.resource.text.removeprefix("celery:").partition("?")
            if parse_qs(query).get("call") == ["kwargs"]:
                return [await self._call(task.task, lambda: self.tasks[name](**value))]
            return [await self._call(task.task, lambda: self.tasks[name](value))]
        if task.resource.plain_function:
            return [await self._call(task.task, lambda: self._function(task.resource.name)(value))]
        function = self._function(value["FunctionName"])
        event = await self._call(task.task, lambda: function(value["Payload"]))
        if isinstance(event, TaskSucceeded):
            event = TaskSucceeded(task.task, msgspec.Raw(b'{"Payload":' + bytes(event.output) + b',"StatusCode":200}'))
        return [event]

    def _function(self, name: str) -> Callable[[Any], Any]:
        return self.functions.find(name).callable

    async def _call(self, task: int, body: Callable[[], Any]) -> Event:
        try:
            value = body()
            if inspect.isawaitable(value):
                value = await value
        except Exception as error:  # noqa: BLE001 - as a worker does
            return TaskFailed(task, error_name(error), str(error))
        return TaskSucceeded(task, msgspec.Raw(write(value)))

    def _decision(self, task: ScheduleTask) -> Event:
        """What a person says who found the question in the approvals, with its token."""
        question = self.stand_ins.approvals.requests[-1]
        assert question["token"]
        answer = self.answers.pop(0)
        if "error" in answer:
            return TaskFailed(task.task, answer["error"], answer["cause"])
        return TaskSucceeded(task.task, msgspec.Raw(write(answer["output"])))


@pytest.fixture
async def stand_ins() -> AsyncIterator[StandIns]:
    servers = StandIns()
    await servers.start()
    yield servers
    await servers.stop()


def items_of(folder: Path, setup: dict[str, Any]) -> ReadItems:
    """Reads the items of Map Runs from the directories that stand for buckets."""
    source = ObjectItems(FileBuckets({name: folder / place for name, place in setup.get("buckets", {}).items()}))

    def read_all(spec: ReaderSpec) -> list[SourceItem]:
        async def all_of() -> list[SourceItem]:
            return [item async for item in source.read(spec, None)]

        with ThreadPoolExecutor(1) as thread:  # this one's loop runs already
            return thread.submit(asyncio.run, all_of()).result()

    return read_all


@pytest.mark.parametrize(("folder", "case"), CASES)
async def test_an_example(
    folder: Path, case: str, target: HttpTarget, shelf: ConnectionShelf, stand_ins: StandIns
) -> None:
    setup = read(folder, "setup", "") if (folder / "setup.json").exists() else {}
    for name, parameters in setup.get("connections", {}).items():
        shelf.add(name, json.dumps(parameters))
    answers = list(setup["answers"][case]) if "answers" in setup else []
    desk = Desk(setup, target, stand_ins, answers)
    text = json.dumps(read(folder, "input", case)).replace(DEFAULT_URL, stand_ins.url)
    machine = parse_definition((folder / "definition.asl.json").read_text())
    execution = LocalExecution(machine, 1_700_000_000_000, name=f"{folder.name}-{case}", machine_name=folder.name)
    execution.read_items = items_of(folder, setup)
    execution.start(Document.parse(text))
    while execution.finish is None:
        if execution.due_map_runs:
            execution.run_map_run(Script({}))
            continue
        if not execution.open_tasks:
            due = execution.next_due
            assert due is not None, "it waits for nothing"
            execution.advance(due)
        for task in list(execution.open_tasks.values()):
            for event in await desk.perform(execution, task):
                execution.apply(event)
    expected = read(folder, "expected", case)
    finish = execution.finish
    assert finish.status == expected["status"], (finish, desk.performed)
    if finish.status is Status.SUCCEEDED:
        assert finish.output is not None
        assert finish.output.value == expected["output"]
    else:
        assert finish.error == expected["error"]
        assert finish.cause == expected.get("cause", finish.cause)
    assert desk.answers == []
    check_effects(folder.name, case, stand_ins, desk)


def check_effects(example: str, case: str, stand_ins: StandIns, desk: Desk) -> None:
    """What the cases are about happened, not only their end."""
    charges = [charge["status"] for charge in stand_ins.payments.charges.values()]
    match example, case:
        case "order_processing", ("" | "busy"):
            assert charges == ["succeeded"]
            assert desk.performed.count("Charge the card") == (2 if case else 1)
        case "order_processing", "no_carrier":
            assert charges == ["refunded"]
            assert desk.performed[-2:] == ["Refund the charge", "Give the goods back"]
        case "order_processing", "declined":
            assert charges == []
            assert desk.performed[-1] == "Give the goods back"
        case "ai_pipeline", "rate_limited":
            assert desk.performed.count("Draft") == 4
        case "ai_pipeline", "fallback":
            assert desk.performed.count("Draft") == 6
            assert desk.performed.count("Draft with the other model") == 2


def test_every_folder_is_complete() -> None:
    for folder in sorted(each for each in EXAMPLES.iterdir() if each.is_dir() and each.name[0] not in "._"):
        assert (folder / "README.md").is_file(), folder
        if folder.name != "stand_ins":
            inputs = {file.name[5:] for file in folder.glob("input*.json")}
            assert ".json" in inputs, folder
            assert inputs == {file.name[8:] for file in folder.glob("expected*.json")}
            text = (folder / "README.md").read_text()
            assert (
                len(inputs) == 1
                or all(f"input{each}" in text for each in inputs)
                or folder.name == "somebody_elses_app"
            )
            assert f"({folder.name}/)" in (EXAMPLES / "README.md").read_text()


def test_all_functions_of_the_examples_are_in_one_module() -> None:
    together = FunctionTable(["asl_examples.functions"]).names
    apart = [
        name
        for file in EXAMPLES.glob("*/functions.py")
        for name in FunctionTable([f"asl_examples.{file.parent.name}.functions"]).names
    ]
    assert together == sorted(apart) != []


CHAT = {"model": "stand-in-small", "messages": [{"role": "user", "content": "Hello there"}]}


async def chat(url: str, body: Any, key: str = "stand-in-chat-key", **headers: str) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/openai/v1/chat/completions", json=body, headers=headers) as response,
    ):
        return response.status, await response.text()


async def test_the_chat_stand_in_speaks_the_protocol(stand_ins: StandIns) -> None:
    status, text = await chat(stand_ins.url, CHAT)
    completion = json.loads(text)
    (choice,) = completion["choices"]
    assert (status, completion["object"], choice["finish_reason"]) == (200, "chat.completion", "stop")
    assert choice["message"]["role"] == "assistant"
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 2
    short = json.loads((await chat(stand_ins.url, {**CHAT, "max_tokens": 3}))[1])["choices"][0]
    assert (len(short["message"]["content"].split()), short["finish_reason"]) == (3, "length")


async def test_the_chat_stand_in_streams_the_same_reply(stand_ins: StandIns) -> None:
    whole = json.loads((await chat(stand_ins.url, CHAT))[1])["choices"][0]["message"]["content"]
    _, text = await chat(stand_ins.url, {**CHAT, "stream": True})
    *chunks, done = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert done == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == whole


@pytest.mark.parametrize(
    ("body", "key", "status", "code"),
    (
        (CHAT, "wrong", 401, "invalid_api_key"),
        ({**CHAT, "model": "none"}, None, 404, "model_not_found"),
        ({"model": "stand-in-small"}, None, 400, "missing_required_parameter"),
        ({**CHAT, "model": "stand-in-rate-limited"}, None, 429, "rate_limit_exceeded"),
        ({**CHAT, "model": "stand-in-overloaded"}, None, 503, None),
    ),
)
async def test_the_chat_stand_in_refuses_as_the_real_ones(
    stand_ins: StandIns, body: Any, key: str | None, status: int, code: str | None
) -> None:
    got, text = await chat(stand_ins.url, body, key or "stand-in-chat-key")
    error = json.loads(text)["error"]
    assert (got, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}


async def test_a_repeated_request_is_not_billed_again(stand_ins: StandIns) -> None:
    first = await chat(stand_ins.url, CHAT, Idempotency_Key="k")
    assert await chat(stand_ins.url, CHAT, Idempotency_Key="k") == first
    assert stand_ins.chat.billed == 1
    assert await chat(stand_ins.url, CHAT, Idempotency_Key="other") != first
    assert stand_ins.chat.billed == 2


def test_the_inputs_name_the_stand_ins_where_they_listen() -> None:
    for file in EXAMPLES.glob("*/input*.json"):
        for value in _texts(json.loads(file.read_text())):
            if value.startswith("http"):
                assert f"{urlsplit(value).scheme}://{urlsplit(value).netloc}" == DEFAULT_URL


def _texts(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    members = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for member in members for text in _texts(member)]
