"""A whole Stepwell by `stepwell up`, used through the command: every client command against real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey
from tests.cli.conftest import COMMAND, Up, clean_environment, machine
from tests.support.embedded import server_place, wait_until_stopped

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("stepwell-up")]

Define = Callable[..., Path]
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:"
ECHO = machine("E", E={"Type": "Pass", "End": True})
FAILING = machine(
    "First", First={"Type": "Pass", "Next": "Call"}, Call={"Type": "Task", "Resource": f"{FUNCTION}absent", "End": True}
)
ODD = {"Variable": "$", "NumericEquals": 1, "Next": "Good"}
SUCCEED = {"Type": "Succeed"}


def deploy(up: Up, define: Define, name: str, definition: Any) -> Any:
    return up.json("deploy", define(definition, f"{name}.asl.json"))["stateMachines"][0]


def test_deploying_twice_changes_nothing(up: Up, define: Define) -> None:
    first = deploy(up, define, "twice", ECHO)
    assert (first["name"], first["revision"]) == ("twice", 1)
    assert deploy(up, define, "twice", ECHO)["revision"] == 1
    assert deploy(up, define, "twice", {**ECHO, "Comment": "new"})["revision"] == 2
    assert "twice" in up.run("machines", "list").stdout
    assert up.json("machines", "show", "twice", "--definition") == {**ECHO, "Comment": "new"}
    up.json("machines", "delete", "twice", "--yes")


def test_an_express_execution_is_waited_for(up: Up, define: Define) -> None:
    made = up.json("deploy", "--type", "EXPRESS", define(ECHO, "quick.asl.json"))["stateMachines"][0]
    assert made["type"] == "EXPRESS"
    ran = up.run("start", "quick", "--wait", "-i", '{"a": 1}')
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"a": 1}), ran.stderr
    id = up.json("start", "quick")["id"]
    assert up.json("status", id, "--wait")["attempt"] == 1
    assert "SUCCEEDED" in up.run("status", id).stdout
    assert "SUCCEEDED" in up.run("list", "-m", "quick").stdout
    activity = machine(
        "A",
        A={
            "Type": "Task",
            "Resource": FUNCTION.replace("lambda", "states").replace("function", "activity") + "a",
            "End": True,
        },
    )
    refused = up.run("deploy", "--type", "EXPRESS", define(activity, "never.asl.json"))
    assert refused.returncode == 1 and "Activity" in refused.stderr


def test_nothing_is_deployed_when_one_file_is_wrong(up: Up, define: Define) -> None:
    good = define(ECHO, "never.asl.json")
    bad = define(machine("A", A={"Type": "Pass", "Comment": 5, "End": True}), "bad.asl.json")
    ran = up.run("deploy", good, bad)
    assert ran.returncode == 1
    assert "bad.asl.json:6:7: error" in ran.stderr
    assert ran.stderr.endswith("Error: Nothing was deployed.\n")
    assert up.json("machines", "show", "never", code=1)["error"]["code"] == "StateMachineDoesNotExist"


def test_what_only_a_server_refuses_is_found_before_the_first_is_sent(up: Up, define: Define) -> None:
    good = define(ECHO, "never.asl.json")
    bad = define(machine("A", A={"Type": "Task", "Resource": "docker://a", "End": True}), "bad.asl.json")
    worse = define(machine("A", A={"Type": "Pas"}), "worse.asl.json")
    error = up.json("deploy", good, bad, worse, code=1)["error"]
    assert [Path(one["file"]).name for one in error["files"]] == ["bad.asl.json", "worse.asl.json"]
    assert up.json("machines", "show", "never", code=1)["error"]["code"] == "StateMachineDoesNotExist"


def test_a_folder_names_its_definition(up: Up, tmp_path: Path) -> None:
    (tmp_path / "billing").mkdir()
    file = tmp_path / "billing" / "definition.asl.json"
    file.write_text(json.dumps(ECHO))
    assert up.json("deploy", file)["stateMachines"][0]["name"] == "billing"


def test_start_and_wait(up: Up, define: Define) -> None:
    deploy(up, define, "echo", ECHO)
    ran = up.run("start", "echo", "--input", '{"a": [1, "é"]}', "--wait")
    assert ran.returncode == 0
    assert json.loads(ran.stdout) == {"a": [1, "é"]}
    assert "✓ E" in ran.stderr
    assert "SUCCEEDED" in ran.stderr
    view = up.json("start", "echo", "--wait=30")
    assert (view["status"], view["output"]) == ("SUCCEEDED", {})


def test_map_runs(up: Up, define: Define) -> None:
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        **machine(
            "Odd", Odd={"Type": "Choice", "Choices": [ODD], "Default": "Bad"}, Good=SUCCEED, Bad={"Type": "Fail"}
        ),
    }
    each = {"Type": "Map", "Label": "Each", "ItemProcessor": processor, "ToleratedFailureCount": 1, "End": True}
    deploy(up, define, "each", machine("M", M=each))
    up.json("start", "each", "--name", "e-1", "--input", "[1, 1, 2]", "--wait")
    view = up.json("map-runs", "list", "each:e-1")
    assert (view["status"], view["items"]["failed"], view["items"]["total"]) == ("SUCCEEDED", 1, 3)
    assert "SUCCEEDED  3 of 3 items, 1 failed" in up.run("map-runs", "list", "each:e-1").stdout
    assert "map run  SUCCEEDED, 3 of 3 items, 1 failed" in up.run("status", "each:e-1").stdout
    assert f"stepwell map-runs children {view['arn']} --status failed" in up.run("status", "each:e-1").stdout
    shown = up.run("map-runs", "show", view["arn"]).stdout
    assert "\ntolerates  1 failed items\n" in shown and "\nitems      3: 2 succeeded, 1 failed\n" in shown
    failed = up.json("map-runs", "children", view["arn"], "--status", "failed")
    assert up.json("status", failed["arn"])["input"] == 2
    assert up.json("map-runs", "update", view["arn"], "--max-concurrency", "5", code=1)["error"]["status"] == 400
    assert up.json("map-runs", "show", "each:e-1", code=1)["error"]["code"] == "InvalidArn"
    assert up.run("map-runs", "update", view["arn"]).returncode == 2


def test_a_name_makes_a_start_idempotent(up: Up, define: Define) -> None:
    waits = machine("W", W={"Type": "Wait", "Seconds": 600, "End": True})
    deploy(up, define, "named", waits)
    first = up.json("start", "named", "--name", "once", "-i", "1")
    assert up.json("start", "named", "--name", "once", "-i", "1")["id"] == first["id"]
    assert up.json("start", "named", "--name", "once", "-i", "2", code=1)["error"]["code"] == "ExecutionAlreadyExists"
    assert up.json("status", "named:once")["id"] == first["id"]
    assert up.json("status", first["arn"])["status"] == "RUNNING"
    assert up.run("start", "named", "--wait=0.2").returncode == 3
    assert up.json("stop", first["id"], "--error", "Enough")["status"] == "ABORTED"
    assert up.run("status", first["id"], "--wait").returncode == 1


def test_a_function_runs_in_its_host(up: Up, define: Define) -> None:
    up.json("functions", "add", "charge-card", "shop_functions:charge")
    assert {"name": "charge-card", "kind": "python"}.items() <= up.lines("functions", "list")[0].items()
    deploy(up, define, "pay", machine("T", T={"Type": "Task", "Resource": f"{FUNCTION}charge-card", "End": True}))
    assert up.json("start", "pay", "-i", '{"amount": 3}', "--wait")["output"]["charged"] == 3
    up.json("functions", "remove", "charge-card")
    assert up.lines("functions", "list") == []


def test_a_failure_is_found_repaired_and_redriven(up: Up, define: Define) -> None:
    deploy(up, define, "fragile", FAILING)
    ran = up.run("start", "fragile", "--wait")
    assert ran.returncode == 1
    assert "Lambda.ResourceNotFoundException" in ran.stderr
    (letter,) = up.lines("dead-letters", "list", "--machine", "fragile")
    assert (letter["state"], letter["status"]) == ("Call", "OPEN")
    assert up.json("dead-letters", "show", str(letter["id"]))["execution"] == letter["execution"]
    assert up.lines("dead-letters", "list", "--error", "Other") == []
    assert up.run("redrive", letter["execution"], "--wait").returncode == 1

    up.json("functions", "add", "absent", "shop_functions:misspelt")
    try:
        assert up.lines("redrive", letter["execution"], "--wait", code=1)[0]["error"] == "Runtime.HandlerNotFound"
        up.json("functions", "add", "absent", "shop_functions:later")  # heard of at once
        assert up.lines("redrive", letter["execution"], "--wait")[0]["status"] == "SUCCEEDED"
        events = up.lines("history", letter["execution"])
        entered = [event["details"]["name"] for event in events if event["type"].endswith("StateEntered")]
        assert entered.count("First") == 1
        assert "ExecutionSucceeded" in up.run("history", letter["execution"]).stdout
        followed = up.run("history", letter["execution"], "--follow")
        assert (followed.returncode, "✓ Call" in followed.stdout) == (0, True)
        assert up.json("redrive", letter["execution"], code=1)["error"]["code"] == "ExecutionNotRedrivable"
    finally:
        up.json("functions", "remove", "absent")


def test_dead_letters_by_the_lot(up: Up, define: Define) -> None:
    deploy(up, define, "lot", machine("F", F={"Type": "Fail", "Error": "Bad"}))
    for _ in range(3):
        up.run("start", "lot", "--wait")
    assert len(up.lines("dead-letters", "list", "-m", "lot", "-e", "Bad")) == 3
    ran = up.run("dead-letters", "redrive")
    assert ran.returncode == 2
    redriven = up.lines("dead-letters", "redrive", "--all", "-m", "lot")
    assert [one["status"] for one in redriven] == ["REDRIVEN"] * 3
    again = up.lines("dead-letters", "list", "-m", "lot")
    assert [one["status"] for one in up.lines("dead-letters", "discard", *(str(one["id"]) for one in again))] == [
        "DISCARDED"
    ] * len(again)
    assert up.lines("dead-letters", "list", "-m", "lot") == []


def test_lists_filter_and_end_at_the_limit(up: Up, define: Define) -> None:
    deploy(up, define, "many", ECHO)
    for _ in range(3):
        up.run("start", "many", "--wait")
    assert len(up.lines("list", "-m", "many", "--limit", "2")) == 2
    assert len(up.lines("list", "-m", "many", "-s", "succeeded", "--all")) == 3
    assert up.lines("list", "-m", "many", "-s", "FAILED") == []
    assert up.run("list", "-m", "many", "-s", "FAILED").stdout == "No executions.\n"


def test_secrets_of_connections_come_from_anywhere_but_arguments(up: Up, tmp_path: Path) -> None:
    environment = clean_environment(STEPWELL_URL=up.url, MY_SECRET="hush-env")
    for arguments, input in (
        (["--bearer", "--secret-env", "MY_SECRET"], ""),
        (["--basic", "user"], "hush-stdin\n"),
        (["--oauth", "https://id.example/token", "--client-id", "me"], "hush-stdin\n"),
    ):
        ran = subprocess.run(
            [*COMMAND, "connections", "add", "api", *arguments, "--json"],
            env=environment, input=input, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert "hush" not in ran.stdout + ran.stderr
    listed = up.run("connections", "list", "--json").stdout
    assert "hush" not in listed
    assert json.loads(listed)["authorizationType"] == "OAUTH_CLIENT_CREDENTIALS"
    up.json("connections", "remove", "api")
    assert up.run("connections", "add", "api", "--bearer", "--basic", "x").returncode == 2


def test_activities_by_hand(up: Up, define: Define) -> None:
    arn = up.json("activities", "create", "sign")["arn"]
    deploy(up, define, "signing", machine("A", A={"Type": "Task", "Resource": arn, "End": True}))
    id = up.json("start", "signing", "-i", '{"page": 1}')["id"]
    task = up.json("activities", "take", "sign", "--worker", "me")
    assert task["input"] == {"page": 1}
    up.json("activities", "succeed", task["token"], "--output", '"signed"')
    assert up.json("status", id, "--wait")["output"] == "signed"
    second = up.json("start", "signing")["id"]
    up.json("activities", "fail", up.json("activities", "take", "sign")["token"], "--error", "Refused")
    assert up.json("status", second, "--wait", code=1)["error"] == "Refused"
    assert up.json("activities", "take", "sign", "--wait", "0") is None
    up.json("activities", "delete", "sign")


def test_the_database_is_in_order(up: Up) -> None:
    assert up.json("db", "check")["ok"] is True
    current = up.json("db", "current")
    assert current["current"] == current["expected"]
    assert up.json("db", "upgrade")["revision"] == current["expected"]
    assert up.json("db", "partitions")["partitions"]


def test_doctor_finds_the_server(up: Up) -> None:
    assert up.run("doctor", "--url", up.url).returncode == 0
    findings = {one["subject"]: one for one in up.json("doctor")["findings"]}
    assert findings["server"]["level"] == "ok"
    assert "running" in findings["database"]["text"]


def test_a_key_closes_the_server_and_its_revocation_opens_it(up: Up) -> None:
    key = up.json("keys", "create", "--name", "ci")
    try:
        refused = json.loads(_until(lambda: up.run("list", "--json"), lambda ran: ran.returncode == 2).stdout)
        assert refused["error"]["status"] == 401
        assert up.run("list", STEPWELL_API_KEY=key["secret"]).returncode == 0
        pair = up.json("keys", "create", "--sigv4", "--name", "boto")
        assert pair["id"].startswith("SWAK")
        kinds = {one["name"]: one["kind"] for one in up.lines("keys", "list")}
        assert kinds == {"ci": "bearer", "boto": "sigv4"}
        assert key["secret"] not in up.run("keys", "list").stdout
    finally:
        for one in up.lines("keys", "list"):
            up.json("keys", "revoke", one["id"])
    _until(lambda: up.run("list"), lambda ran: ran.returncode == 0)


def _until(act: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """Servers believe what they know for some seconds: act until this one has heard of the change."""
    seen = []
    for _ in range(200):
        seen.append(act())
        if enough(seen[-1]):
            return seen[-1]
    raise AssertionError(f"it never came: {seen[-1]}")


def children_of(pid: int) -> set[int]:
    """The processes below one, all the way down; threads and processes may come and go meanwhile."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # it has ended
                below = {int(one) for one in task.read_text().split()}
                waiting += below
                found |= below
    return found


def handles_of(pids: set[int]) -> list[int]:
    """Handles of those processes that have not ended by themselves."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    return handles


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", (signal.SIGTERM, signal.SIGINT, signal.SIGKILL))
def test_up_prints_one_line_and_leaves_nothing_behind(how: signal.Signals) -> None:
    with server_place() as place:
        process = subprocess.Popen(
            [*COMMAND, "up", "--port", "0", "--workers", "1", "--data-dir", str(place)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=clean_environment(), start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready http://127.0.0.1:")
            handles = handles_of(children_of(process.pid))
            assert handles
            process.send_signal(how)
            rest, _ = process.communicate(timeout=60)
            assert rest == ""
            assert process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 0)
            for handle in handles:
                _wait_gone(handle)
        finally:
            process.kill()
            process.wait()
        wait_until_stopped(EmbeddedPostgres(place / "postgres"))
        wait_until_stopped(EmbeddedValkey(place / "valkey"))


def _wait_gone(handle: int) -> None:
    """Wait until the process behind a handle has ended."""
    import select

    ready, _, _ = select.select([handle], [], [], 60)
    os.close(handle)
    assert ready, "a process was left behind"


def test_a_taken_port_is_told(up: Up) -> None:
    port = up.url.rpartition(":")[2]
    ran = up.run("up", "--port", port)
    assert ran.returncode == 2
    assert f"Port {port}" in ran.stderr
    assert "--port" in ran.stderr


def test_other_machines_are_not_served_without_a_key(up: Up) -> None:
    ran = up.run("up", "--port", "0", "--host", "0.0.0.0", "--workers", "0")
    assert ran.returncode == 2
    assert "stepwell keys create" in ran.stderr


def test_a_lifeline_ends_its_process() -> None:
    program = (
        "import signal, sys; from stepwell.cli.serving import end_with; end_with(int(sys.argv[1])); "
        "print('on', flush=True); signal.pause()"
    )
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(reading)],
        pass_fds=[reading],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        os.close(reading)
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        os.close(writing)
        assert process.wait(60) == -signal.SIGTERM
