"""`stepwell run`: one execution here and now, with functions, mocks and skipped time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke, machine

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:"
Define = Callable[..., Path]


def task(resource: str, **fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": resource, "End": True, **fields}


MONTH = machine(
    "W",
    W={"Type": "Wait", "Seconds": 30 * 86_400, "Next": "T"},
    T=task(f"{FUNCTION}charge", Retry=[{"ErrorEquals": ["CardError"], "IntervalSeconds": 3600}]),
)


def test_a_month_and_two_declined_cards_in_no_time(invoke: Invoke, define: Define, functions: str) -> None:
    ran = invoke("run", define(MONTH), "--fast", "--functions", functions, "-i", '{"amount": 7, "declines": 2}')
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout) == {"charged": 7, "by": "charge"}
    assert "✓ W" in ran.stderr
    assert "CardError: declined" in ran.stderr
    assert "attempt 3" in ran.stderr
    assert "SUCCEEDED after 30 days 3 h" in ran.stderr


def test_json_is_one_document(invoke: Invoke, define: Define, functions: str) -> None:
    ran = invoke("run", define(MONTH), "--fast", "-f", functions, "-i", '{"amount": 7}', "--json", "--history")
    assert (ran.exit_code, ran.stderr) == (0, "")
    result = json.loads(ran.stdout)
    assert (result["status"], result["output"]) == ("SUCCEEDED", {"charged": 7, "by": "charge"})
    assert result["durationMs"] >= 30 * 86_400_000
    assert [event["id"] for event in result["history"]] == list(range(1, result["events"] + 1))
    assert result["history"][-1]["type"] == "ExecutionSucceeded"


def test_without_fast_time_passes_as_it_does(invoke: Invoke, define: Define) -> None:
    ran = invoke("run", define(machine("W", W={"Type": "Wait", "Seconds": 1, "End": True})), "--json")
    assert json.loads(ran.stdout)["durationMs"] >= 1000


def test_a_failure_says_where_and_why(invoke: Invoke, define: Define, functions: str) -> None:
    definition = machine("T", T=task(f"{FUNCTION}charge"))
    ran = invoke("run", define(definition), "-f", functions, "-i", '{"amount": 1, "declines": 9}')
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert "FAILED in state T" in ran.stderr
    assert "error: CardError" in ran.stderr
    assert "cause: declined" in ran.stderr


def test_functions_by_mapping_by_name_and_async(invoke: Invoke, define: Define, functions: str, tmp_path: Path) -> None:
    branches = [machine(name, **{name: task(f"{FUNCTION}{name}")}) for name in ("later", "renamed")]
    file = define(machine("P", P={"Type": "Parallel", "Branches": branches, "End": True}))
    given = ["--functions", functions, "--functions", f"renamed={functions}:charge"]
    ran = invoke("run", file, *given, "-i", '{"amount": 2}')
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout) == [{"later": {"amount": 2}}, {"charged": 2, "by": "renamed"}]


def test_lambda_invoke_has_its_envelope(invoke: Invoke, define: Define, functions: str) -> None:
    parameters = {"FunctionName": "charge", "Payload.$": "$"}
    file = define(machine("T", T=task("arn:aws:states:::lambda:invoke", Parameters=parameters)))
    ran = invoke("run", file, "-f", functions, "-i", '{"amount": 2}')
    assert json.loads(ran.stdout)["Payload"] == {"charged": 2, "by": "charge"}


def test_a_function_that_exits_is_an_error_of_its_task(invoke: Invoke, define: Define, functions: str) -> None:
    ran = invoke("run", define(machine("T", T=task(f"{FUNCTION}broken"))), "-f", functions, "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["error"] == "Runtime.ExitError"


def test_mocks_answer_in_order_and_the_last_one_again(invoke: Invoke, define: Define, tmp_path: Path) -> None:
    mapped = {
        "Type": "Map",
        "ItemProcessor": machine("I", I=task("celery:shop.pick")),
        "MaxConcurrency": 1,
        "End": True,
    }
    mock = tmp_path / "mock.json"
    mock.write_text('{"I": [{"Return": 1}, {"Return": 2}]}')
    ran = invoke("run", define(machine("M", M=mapped)), "--mock", mock, "-i", "[0, 0, 0]")
    assert json.loads(ran.stdout) == [1, 2, 2]


def test_a_mock_throws(invoke: Invoke, define: Define, tmp_path: Path) -> None:
    mock = tmp_path / "mock.json"
    mock.write_text('{"T": {"Throw": {"Error": "Broken", "Cause": "by design"}}}')
    ran = invoke("run", define(machine("T", T=task("celery:x"))), "--mock", mock, "--json")
    assert ran.exit_code == 1
    assert {key: value for key, value in json.loads(ran.stdout).items() if key in ("error", "cause", "state")} == {
        "error": "Broken",
        "cause": "by design",
        "state": "T",
    }


@pytest.mark.parametrize(
    ("resource", "says"),
    (
        (f"{FUNCTION}nowhere", "--functions"),
        ("celery:shop.pick", "Celery"),
        ("arn:aws:states:us-east-1:000000000000:activity:a", "activity"),
        ("https://example.com/x", "--http"),
    ),
)
def test_what_nobody_performs_is_no_error_the_definition_could_catch(
    invoke: Invoke, define: Define, resource: str, says: str
) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "S"}]
    ran = invoke("run", define(machine("T", T=task(resource, Catch=catch), S={"Type": "Succeed"})))
    assert ran.exit_code == 2
    assert "State 'T'" in ran.stderr
    assert "--mock" in ran.stderr
    assert says in ran.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    (
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"X": {"Return": 1}}', "no Task state 'X' at /X (line 1, column 2). There is 'T'."),
        ('{"T": []}', "no answers"),
        ('{"T": {"Retrun": 1}}', "must have one of Return and Throw"),
        ('{"T": {"Throw": {"error": "x"}}}', "Did you mean 'Error'?"),
        ('{"T": {"Return": 1}, "T": {"Return": 2}}', "Duplicate field 'T'"),
    ),
)
def test_mock_files_that_are_none(invoke: Invoke, define: Define, tmp_path: Path, text: str, says: str) -> None:
    mock = tmp_path / "mock.json"
    mock.write_text(text)
    ran = invoke("run", define(machine("T", T=task("celery:x"))), "--mock", mock)
    assert ran.exit_code == 2
    assert says in ran.stderr


def test_an_invalid_definition_is_shown_as_validate_shows_it(invoke: Invoke, define: Define) -> None:
    file = define(machine("A", A={"Type": "Pass", "Comment": 5, "End": True}))
    ran = invoke("run", file)
    assert ran.exit_code == 1
    assert "Expected value of type String" in ran.stderr
    assert "^" in ran.stderr
    assert "The definition is invalid" in ran.stderr


@pytest.mark.parametrize("given", ("{", "@/nowhere.json", "nul\x00"))
def test_unusable_input(invoke: Invoke, define: Define, given: str) -> None:
    ran = invoke("run", define(machine("S", S={"Type": "Succeed"})), "--input", given)
    assert ran.exit_code == 2


def test_input_from_a_file_and_from_stdin(invoke: Invoke, define: Define, tmp_path: Path) -> None:
    file = define(machine("S", S={"Type": "Succeed"}))
    (tmp_path / "input.json").write_text('{"from": "file"}')
    assert json.loads(invoke("run", file, "-i", f"@{tmp_path}/input.json").stdout) == {"from": "file"}
    assert json.loads(invoke("run", file, "-i", "-", input='{"from": "stdin"}').stdout) == {"from": "stdin"}


TWO_CASES = {
    "StateMachines": {
        "orders": {
            "TestCases": {"Good": {"T": "good"}, "Busy": {"T": "busy_once"}},
        }
    },
    "MockedResponses": {
        "good": {"0": {"Return": {"StatusCode": 200, "Payload": {"n": 1}}}},
        "busy_once": {"0": {"Throw": {"Error": "Busy", "Cause": "try later"}}, "1-2": {"Return": {"n": 2}}},
    },
}


@pytest.fixture
def mock_config(tmp_path: Path) -> Path:
    file = tmp_path / "MockConfigFile.json"
    file.write_text(json.dumps(TWO_CASES))
    return file


def test_a_test_case_of_a_mock_config_file(invoke: Invoke, define: Define, mock_config: Path) -> None:
    retry = [{"ErrorEquals": ["Busy"], "IntervalSeconds": 60}]
    file = define(machine("T", T=task(f"{FUNCTION}x", Retry=retry)), "orders.asl.json")
    ran = invoke("run", file, "--mock-config", mock_config, "--case", "Good", "--json")
    assert json.loads(ran.stdout)["output"] == {"n": 1}
    ran = invoke("run", file, "--mock-config", mock_config, "--case", "Busy", "--fast", "--json")
    result = json.loads(ran.stdout)
    assert (result["output"], result["durationMs"] >= 60_000) == ({"n": 2}, True)


def test_a_definition_in_yaml(invoke: Invoke, define: Define) -> None:
    file = define("StartAt: S\nStates:\n  S: {Type: Pass, Result: [1], End: true}\n", "m.asl.yaml")
    assert json.loads(invoke("run", file).stdout) == [1]
    ran = invoke("run", define("StartAt: S\nStates:\n  S: {Type: Pass, Comment: 5, End: true}\n", "n.asl.yaml"))
    assert (ran.exit_code, "n.asl.yaml:3:" in ran.stderr) == (1, True)


def test_the_mock_config_of_the_environment_is_what_case_is_looked_for_in(
    invoke: Invoke, define: Define, mock_config: Path
) -> None:
    file = define(machine("T", T=task(f"{FUNCTION}x")), "orders.asl.json")
    environment = {"SFN_MOCK_CONFIG": str(mock_config)}
    ran = invoke("run", file, "--case", "Good", environment=environment)
    assert json.loads(ran.stdout) == {"n": 1}
    ran = invoke("run", file, environment=environment)
    assert (ran.exit_code, "State 'T' calls the function" in ran.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    (
        (["--case", "Godo"], "There is no test case 'Godo' at /StateMachines/orders/TestCases. Did you mean 'Good'?"),
        ([], "Say with --case which test case of 'orders'"),
        (["--mock", "x.json"], "two ways to say the same"),
    ),
)
def test_a_test_case_that_is_not_there(
    invoke: Invoke, define: Define, mock_config: Path, arguments: list[str], says: str
) -> None:
    ran = invoke("run", define(machine("T", T=task("celery:x"))), "--mock-config", mock_config, *arguments)
    assert ran.exit_code == 2
    assert says in ran.stderr


def test_a_case_without_a_file_and_a_case_for_another_machine(
    invoke: Invoke, define: Define, mock_config: Path
) -> None:
    other = machine("X", X=task("celery:x"))
    ran = invoke("run", define(other), "--case", "Good")
    assert (ran.exit_code, "--mock-config" in ran.stderr) == (2, True)
    ran = invoke("run", define(other), "--mock-config", mock_config, "--case", "Good")
    assert (ran.exit_code, "no Task state 'T'" in ran.stderr) == (2, True)


def test_a_distributed_map_runs_its_children_here(
    invoke: Invoke, define: Define, functions: str, tmp_path: Path
) -> None:
    wait = {"Type": "Wait", "Seconds": 3600, "Next": "T"}
    processor = {
        **machine("W", W=wait, T=task(f"{FUNCTION}charge")),
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
    }
    file = define(machine("M", M={"Type": "Map", "ItemProcessor": processor, "End": True}))
    items = '[{"amount": 1}, {"amount": 2}]'
    result = json.loads(invoke("run", file, "--fast", "-f", functions, "-i", items, "--json").stdout)
    assert result["output"] == [{"charged": 1, "by": "charge"}, {"charged": 2, "by": "charge"}]
    mock = tmp_path / "mock.json"
    mock.write_text('{"T": [{"Return": "a"}, {"Return": "b"}]}')
    ran = invoke("run", file, "--fast", "-m", mock, "-i", items)
    assert json.loads(ran.stdout) == ["a", "b"]
    ran = invoke("run", file, "--fast", "-i", items)
    assert (ran.exit_code, "State 'T' calls the function 'charge'" in ran.stderr) == (2, True)


@pytest.mark.parametrize(("kind", "ends"), (("STANDARD", [1, 301]), ("EXPRESS", [1])))
def test_an_express_child_lasts_five_minutes_at_most(
    invoke: Invoke, define: Define, kind: str, ends: list[int]
) -> None:
    wait = {"Type": "Wait", "SecondsPath": "$", "End": True}
    processor = {**machine("W", W=wait), "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind}}
    mapped = {"Type": "Map", "ItemProcessor": processor, "ToleratedFailureCount": 1, "End": True}
    result = json.loads(invoke("run", define(machine("M", M=mapped)), "--fast", "-i", "[1, 301]", "--json").stdout)
    assert result["output"] == ends


def test_what_an_item_reader_reads_is_given_as_a_mock(invoke: Invoke, define: Define, tmp_path: Path) -> None:
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "Parameters": {"Bucket": "b", "Key": "k"},
        "ReaderConfig": {"InputType": "JSON"},
    }
    processor = {
        **machine("S", S={"Type": "Succeed"}),
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
    }
    mapped = {"Type": "Map", "ItemReader": reader, "ItemProcessor": processor, "End": True}
    file = define(machine("M", M=mapped))
    ran = invoke("run", file)
    assert (ran.exit_code, "State 'M' reads its items by getObject" in ran.stderr) == (2, True)
    mock = tmp_path / "mock.json"
    mock.write_text('{"M": {"Return": [1, 2]}}')
    assert json.loads(invoke("run", file, "-m", mock).stdout) == [1, 2]


def test_a_mock_that_takes_its_time_is_late_for_a_timeout(invoke: Invoke, define: Define, tmp_path: Path) -> None:
    mock = tmp_path / "mock.json"
    mock.write_text('{"T": {"Return": 1, "AfterSeconds": 90}}')
    ran = invoke("run", define(machine("T", T=task("celery:x", TimeoutSeconds=60))), "-m", mock, "--fast", "--json")
    assert [json.loads(ran.stdout)[name] for name in ("error", "durationMs")] == ["States.Timeout", 60_000]
    ran = invoke("run", define(machine("T", T=task("celery:x", TimeoutSeconds=90))), "-m", mock, "--fast", "--json")
    assert [json.loads(ran.stdout)[name] for name in ("output", "durationMs")] == [1, 90_000]


@pytest.fixture
def endpoint() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = json.dumps({"heard": json.loads(body)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_http_goes_out_only_where_it_is_allowed(invoke: Invoke, define: Define, endpoint: str) -> None:
    file = define(machine("T", T=task(endpoint)))
    ran = invoke("run", file, "--http", "--json")
    assert json.loads(ran.stdout)["error"] == "Stepwell.EgressDenied"
    ran = invoke("run", file, "--http-allow", "loopback", "-i", '{"a": 1}')
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout) == {"heard": {"a": 1}}


def test_a_caught_error_is_told_as_caught(invoke: Invoke, define: Define, tmp_path: Path) -> None:
    mocks = tmp_path / "mocks.json"
    mocks.write_text('{"T": [{"Throw": {"Error": "Busy"}}]}')
    caught: dict[str, Any] = {"Type": "Task", "Resource": f"{FUNCTION}x", "Next": "Z"}
    caught["Catch"] = [{"ErrorEquals": ["States.ALL"], "Next": "Z"}]
    ran = invoke("run", define(machine("T", T=caught, Z={"Type": "Succeed"})), "--mock", str(mocks))
    assert ran.exit_code == 0, ran.output
    lines = [line.split()[2:] for line in ran.stderr.splitlines()]
    assert lines[1:4] == [["✗", "T", "Busy"], ["↷", "T", "caught"], ["✓", "Z", "Succeed"]]
