"""The client: what it makes of servers that are away, refuse, or are none of ours; and its paging."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stepwell.cli.client import Client, part, reference, refused
from stepwell.cli.failures import ExitCode, Failure

Answer = Callable[[str, str, bytes], tuple[int, Any]]


@pytest.mark.parametrize(
    ("detail", "advice"),
    (
        ("This operation is not supported by this type of state machine", "`stepwell status` shows how they ended."),
        (
            "Execution Does Not Exist: 'ex:one'",
            "An Express execution is called by its id or its ARN, not MACHINE:NAME.",
        ),
    ),
)
def test_words_of_aws_are_explained(detail: str, advice: str) -> None:
    assert refused(400, {"detail": detail}).message.startswith(f"{detail}. ")
    assert refused(400, {"detail": detail}).message.endswith(advice)


@pytest.mark.parametrize(
    "detail", ("Execution Does Not Exist: '9f22'.", "Execution Does Not Exist: 'arn:aws:states:x:y'.")
)
def test_what_says_enough_is_left_as_it_is(detail: str) -> None:
    assert refused(400, {"detail": detail}).message == detail


class Stub:
    """A server that answers as a test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = lambda method, path, body: (200, {})
        self.closing = False
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stub.asked.append((self.command, self.path, body, dict(self.headers)))
                status, value = stub.answer(self.command, self.path, body)
                text = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                if stub.closing:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 -- the server looks for these names

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    one = Stub()
    thread = threading.Thread(target=one.server.serve_forever, daemon=True)
    thread.start()
    yield one
    one.server.shutdown()
    one.server.server_close()
    thread.join()


@pytest.fixture
def client(stub: Stub) -> Iterator[Client]:
    one = Client(stub.url, "swk_key")
    yield one
    one.close()


def test_requests_carry_key_and_body(stub: Stub, client: Client) -> None:
    client.put("/v1/x", {"a": "é"})
    method, path, body, headers = stub.asked[0]
    assert (method, path, json.loads(body)) == ("PUT", "/v1/x", {"a": "é"})
    assert headers["Authorization"] == "Bearer swk_key"


def test_pages_are_followed_up_to_the_limit(stub: Stub, client: Client) -> None:
    def answer(method: str, path: str, body: bytes) -> tuple[int, Any]:
        after = 2 if "after=t1" in path else 0
        return 200, {"items": [after, after + 1], **({"next": "t1"} if not after else {})}

    stub.answer = answer
    assert list(client.pages("/v1/x", {"status": "FAILED", "machine": None})) == [0, 1, 2, 3]
    assert stub.asked[0][1] == "/v1/x?status=FAILED&limit=100"
    assert list(client.pages("/v1/x", limit=2)) == [0, 1]


def test_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Failure, match="nothing listens there") as failed:
            Client(f"http://127.0.0.1:{taken.getsockname()[1]}").get("/")
    assert failed.value.exit_code == ExitCode.UNUSABLE
    assert "STEPWELL_URL" in str(failed.value)


def test_a_name_that_is_none() -> None:
    with pytest.raises(Failure) as failed:
        Client("http://no-such-host.invalid:1").get("/")
    assert failed.value.exit_code == ExitCode.UNUSABLE


def test_a_server_that_is_none_of_ours(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: (200, b"<html>hello</html>")
    with pytest.raises(Failure, match="is no Stepwell server"):
        client.get("/v1/x")


@pytest.mark.parametrize(
    ("status", "code"),
    (
        (404, ExitCode.FAILED),
        (409, ExitCode.FAILED),
        (400, ExitCode.FAILED),
        (401, ExitCode.UNUSABLE),
        (503, ExitCode.UNUSABLE),
    ),
)
def test_refusals_are_told_in_the_servers_words(stub: Stub, client: Client, status: int, code: ExitCode) -> None:
    stub.answer = lambda *_: (status, {"code": "SomeReason", "detail": "It cannot be"})
    with pytest.raises(Failure, match="It cannot be") as failed:
        client.get("/v1/x")
    assert failed.value.exit_code == code
    assert failed.value.code == "SomeReason"
    assert ("STEPWELL_API_KEY" in str(failed.value)) == (status == 401)


def test_a_connection_closed_in_between_is_made_anew(client: Client, stub: Stub) -> None:
    client.get("/v1/a")
    assert client._connection is not None
    assert client._connection.sock is not None
    client._connection.sock.shutdown(socket.SHUT_RDWR)
    client.get("/v1/b")
    assert [path for _, path, *_ in stub.asked] == ["/v1/a", "/v1/b"]


def test_a_start_is_never_sent_twice(client: Client, stub: Stub) -> None:
    client.get("/v1/a")
    assert client._connection is not None
    assert client._connection.sock is not None
    client._connection.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Failure):
        client.post("/v1/executions")
    assert [path for _, path, *_ in stub.asked] == ["/v1/a"]


def test_names_and_references_fit_into_paths() -> None:
    assert part("a/b c") == "a%2Fb%20c"
    assert part("arn:aws:states:x") == "arn:aws:states:x"
    assert reference("arn:aws:states:r:1:execution:m:ä") == "arn:aws:states:r:1:execution:m:%C3%A4"


def test_a_server_that_says_it_closes_is_connected_to_anew(client: Client, stub: Stub) -> None:
    stub.closing = True
    assert [client.get("/v1/x") for _ in range(3)] == [{}, {}, {}]
