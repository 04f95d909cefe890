"""Functions that a host runs in tests. State between calls is kept in files, as another process holds them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from stepwell.workers import FunctionContext, function


@function("charge-card")
def charge(event: Any, context: FunctionContext) -> Any:
    return {
        "charged": event["amount"],
        "request": context.aws_request_id,
        "name": context.function_name,
        "arn": context.invoked_function_arn,
        "key": context.idempotency_key,
        "state": context.state_name,
        "has_time": context.get_remaining_time_in_millis() > 0,
    }


def echo(event: Any) -> Any:
    return event


async def echo_later(event: Any) -> Any:
    await asyncio.sleep(0)
    return event


def only_event_by_default(event: Any, scale: int = 3) -> int:
    return int(event) * scale


class CardDeclined(Exception):
    pass


def decline(event: Any) -> None:
    raise CardDeclined("insufficient funds")


async def decline_later(event: Any) -> None:
    raise CardDeclined("insufficient funds")


def leave(event: Any) -> None:
    sys.exit(3)


def crash(event: Any) -> None:
    with Path(event["log"]).open("a") as log:
        log.write("x")
    os._exit(7)


def crash_once(event: Any) -> str:
    """Ends the process the first time, then works."""
    mark = Path(event["mark"])
    if not mark.exists():
        mark.touch()
        os._exit(7)
    return "survived"


def count(event: Any) -> str:
    with Path(event["log"]).open("a") as log:
        log.write("x")
    return "counted"


def wait_for_file(event: Any) -> str:
    """Blocks its thread until the test makes the file."""
    Path(event["began"]).touch()
    while not Path(event["until"]).exists():
        time.sleep(0.005)
    return "released"


async def block_loop(event: Any) -> str:
    """An async function that does what it should not: it blocks the loop it runs on."""
    return wait_for_file(event)


def touch(path: str) -> None:
    Path(path).touch()


async def wait_forever(event: Any) -> None:
    touch(event["began"])
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        touch(event["cancelled"])
        raise


def unusable(event: Any) -> object:
    return object()


def lone_surrogate(event: Any) -> str:
    return "\ud800"


def bulky(event: Any) -> str:
    return "x" * int(event)
