"""The function host with real processes: what it runs, how errors look, what crashes and blocking functions do to others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepwell.engine.errors import ConfigurationError, TargetUnavailableError
from stepwell.engine.messages import Call, Challenge, FrameError, FrameReader, Raised, Returned, frame
from stepwell.engine.targets.function_hosts import MAX_DELIVERIES, FunctionHostPool, HostLostError
from tests.conftest import ROOT
from tests.fixtures.processes import StartProcess
from tests.support.waiting import until

MODULE = "tests.workers.sample_functions"


def call(name: str, event: Any = None, **options: Any) -> Call:
    target = name if "-" in name else f"{MODULE}:{name}"
    return Call(0, target, msgspec.json.encode(event), "request-1", name, **options)


@pytest.fixture
async def hosts() -> AsyncIterator[FunctionHostPool]:
    pool = FunctionHostPool([MODULE], directory=ROOT)
    await pool.start()
    yield pool
    await pool.close()


async def run(pool: FunctionHostPool, name: str, event: Any = None) -> Any:
    answer = await pool.call(call(name, event))
    assert isinstance(answer, Returned), answer
    return json.loads(answer.output)


async def fail(pool: FunctionHostPool, name: str, event: Any = None) -> tuple[str, dict[str, Any]]:
    answer = await pool.call(call(name, event))
    assert isinstance(answer, Raised), answer
    return answer.error, json.loads(answer.cause)


def pid(pool: FunctionHostPool) -> set[int]:
    return {connection.pid for connection in pool._connections}


async def test_sync_and_async_functions_get_the_event_and_what_context_they_ask_for(hosts: FunctionHostPool) -> None:
    assert await run(hosts, "echo", {"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}
    assert await run(hosts, "echo_later", "text") == "text"
    assert await run(hosts, "only_event_by_default", 2) == 6
    answer = await hosts.call(call("charge-card", {"amount": 5}, arn="arn:f", state="Pay", idempotency_key="key-1"))
    assert isinstance(answer, Returned)
    assert json.loads(answer.output) == {
        "charged": 5, "request": "request-1", "name": "charge-card", "arn": "arn:f", "key": "key-1", "state": "Pay",
        "has_time": True,
    }  # fmt: skip


async def test_names_of_decorated_functions_are_announced(hosts: FunctionHostPool) -> None:
    assert await hosts.has("charge-card")
    assert not await hosts.has("echo")


@pytest.mark.parametrize("name", ("decline", "decline_later"))
async def test_an_error_has_the_shape_of_lambdas(hosts: FunctionHostPool, name: str) -> None:
    error, cause = await fail(hosts, name)
    trace = cause.pop("stackTrace")
    assert error == "CardDeclined"
    assert cause == {"errorMessage": "insufficient funds", "errorType": "CardDeclined", "requestId": "request-1"}
    assert len(trace) == 1, "the trace begins in the user's own code"
    assert trace[0].startswith('  File "') and f", in {name}\n    raise CardDeclined(" in trace[0]


@pytest.mark.parametrize(
    ("name", "event", "error"),
    (
        ("unusable", None, "Runtime.MarshalError"),
        ("lone_surrogate", None, "Runtime.MarshalError"),
        ("bulky", 7_000_000, "Function.ResponseSizeTooLarge"),
        ("leave", None, "Runtime.ExitError"),
        ("no_such", None, "Runtime.HandlerNotFound"),
        ("not-announced", None, "Runtime.HandlerNotFound"),
    ),
)
async def test_what_cannot_be_a_result_is_an_error_and_the_host_lives(
    hosts: FunctionHostPool, name: str, event: Any, error: str
) -> None:
    assert (await fail(hosts, name, event))[0] == error
    assert await run(hosts, "echo", 1) == 1


async def test_only_modules_of_the_list_can_be_called(hosts: FunctionHostPool) -> None:
    answer = await hosts.call(Call(0, "os:getcwd", b"{}"))
    assert isinstance(answer, Raised)
    assert answer.error == "Runtime.ImportModuleError"
    assert "not among the modules" in answer.cause


async def test_big_payloads_and_many_calls_at_once_all_come_back_right(hosts: FunctionHostPool) -> None:
    big = "x" * 3_000_000
    events: list[Any] = [big, *range(2_000), big + "y"]
    names = ["echo", "echo_later"]
    answers = await asyncio.gather(*(run(hosts, names[i % 2], event) for i, event in enumerate(events)))
    assert answers == events


async def test_blocking_functions_hold_up_neither_others_nor_the_engine(
    hosts: FunctionHostPool, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    blocked = []
    for number in range(20):
        began = tmp_path / f"began{number}"
        name = "block_loop" if number == 0 else "wait_for_file"
        blocked.append(asyncio.create_task(run(hosts, name, {"began": str(began), "until": str(release)})))
        await until(began.exists)
    assert await run(hosts, "echo", "while they block") == "while they block"
    assert not any(task.done() for task in blocked)
    release.touch()
    assert set(await asyncio.gather(*blocked)) == {"released"}


async def test_a_call_nobody_waits_for_is_cancelled(hosts: FunctionHostPool, tmp_path: Path) -> None:
    began, cancelled = tmp_path / "began", tmp_path / "cancelled"
    task = asyncio.create_task(run(hosts, "wait_forever", {"began": str(began), "cancelled": str(cancelled)}))
    await until(began.exists)
    task.cancel()
    await until(cancelled.exists)
    assert all(connection.load == 0 for connection in hosts._connections)


async def test_a_call_lost_with_its_host_is_delivered_again(hosts: FunctionHostPool, tmp_path: Path) -> None:
    assert await run(hosts, "crash_once", {"mark": str(tmp_path / "mark")}) == "survived"


async def test_a_killed_host_is_replaced(hosts: FunctionHostPool, tmp_path: Path) -> None:
    await run(hosts, "echo")
    before = pid(hosts)
    release, began = tmp_path / "release", tmp_path / "began"
    blocked = asyncio.create_task(run(hosts, "wait_for_file", {"began": str(began), "until": str(release)}))
    await until(began.exists)
    began.unlink()
    for number in before:
        os.kill(number, signal.SIGKILL)
    await until(began.exists)
    release.touch()
    assert await blocked == "released"
    assert not pid(hosts) & before


async def test_the_call_that_ends_hosts_is_given_up_and_the_innocent_are_not(
    hosts: FunctionHostPool, tmp_path: Path
) -> None:
    release, crashes = tmp_path / "release", tmp_path / "crashes"
    release.touch()
    await run(hosts, "echo")
    poison = asyncio.create_task(hosts.call(call("crash", {"log": str(crashes)})))
    innocent = [
        asyncio.create_task(run(hosts, "wait_for_file", {"began": str(tmp_path / f"b{n}"), "until": str(release)}))
        for n in range(10)
    ]
    with pytest.raises(HostLostError):
        await poison
    assert await asyncio.gather(*innocent) == ["released"] * 10
    assert crashes.read_text() == "x" * MAX_DELIVERIES


async def test_hosts_end_when_their_engine_is_killed(start_process: StartProcess, tmp_path: Path) -> None:
    program = tmp_path / "engine.py"
    program.write_text(
        "import asyncio\n"
        "from stepwell.engine.targets.function_hosts import FunctionHostPool\n"
        "async def main():\n"
        f"    pool = FunctionHostPool([{MODULE!r}])\n"
        "    await pool.start()\n"
        "    await pool.has('charge-card')\n"
        "    print('host', *[c.pid for c in pool._connections])\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    engine = start_process([sys.executable, program], environment={"PYTHONPATH": str(ROOT)}, directory=ROOT)
    host = int(engine.wait_for(r"host (\d+)")[1])
    engine.kill()
    await until(lambda: not alive(host))


def alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def serve(start_process: StartProcess, address: str, secret: str = "") -> str:
    program = (
        "import sys; from stepwell.workers.host import run_host\n"
        f"run_host([{MODULE!r}], listen=sys.argv[1], secret=sys.argv[2].encode(),"
        " on_ready=lambda where: print('listening', where, flush=True))"
    )
    process = start_process([sys.executable, "-c", program, address, secret], directory=ROOT)
    return process.wait_for(r"listening (\S+)")[1]


async def test_a_host_elsewhere_is_reached_over_a_unix_socket(start_process: StartProcess, tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    address = serve(start_process, f"unix:{path}")
    assert path.stat().st_mode & 0o077 == 0
    pool = FunctionHostPool(addresses=[address])
    await pool.start()
    try:
        assert await run(pool, "echo", 1) == 1
    finally:
        await pool.close()


async def test_tcp_needs_the_shared_secret_on_both_sides(start_process: StartProcess) -> None:
    address = serve(start_process, "127.0.0.1:0", "s3cret")
    with pytest.raises(ConfigurationError, match="STEPWELL_FUNCTION_SECRET"):
        FunctionHostPool(addresses=[address])
    right, wrong = (
        FunctionHostPool(addresses=[address], secret=secret, patience_seconds=patience)
        for secret, patience in ((b"s3cret", 60), (b"guess", 0.5))
    )
    await right.start()
    await wrong.start()
    try:
        assert await run(right, "echo", 1) == 1
        with pytest.raises(TargetUnavailableError):
            await run(wrong, "echo", 1)
    finally:
        await right.close()
        await wrong.close()


async def test_a_stranger_can_make_no_call(start_process: StartProcess, tmp_path: Path) -> None:
    """A call before the handshake, and a frame that is none, end the connection; a restarted host takes its socket back."""
    address = serve(start_process, f"unix:{tmp_path / 'host.sock'}", "s3cret")
    log = tmp_path / "log"
    for message in (frame([call("count", {"log": str(log)})]), b"\xff\xff\xff\xff garbage", frame([Challenge(b"")])):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(60)
            stranger.connect(address[5:])
            stranger.recv(4096)
            stranger.sendall(message)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(4096) == b""
    assert not log.exists()


async def test_without_hosts_a_call_says_what_to_start() -> None:
    pool = FunctionHostPool()
    await pool.start()
    with pytest.raises(TargetUnavailableError, match="STEPWELL_FUNCTION_MODULES"):
        await pool.call(call("echo"))
    await pool.close()


@pytest.mark.parametrize("size", (1, 3, 7, 10_000))
def test_frames_survive_any_cut(size: int) -> None:
    messages = [[call("echo", number)] for number in range(20)]
    stream = b"".join(frame(batch) for batch in messages)
    reader = FrameReader()
    bodies = [body for at in range(0, len(stream), size) for body in reader.feed(stream[at : at + size])]
    assert [msgspec.msgpack.decode(body, type=list[Call]) for body in bodies] == messages


def test_a_length_that_cannot_be_is_refused() -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(b"\x7f\xff\xff\xff")
