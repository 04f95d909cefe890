"""S3 for tests: moto's server, behind a door that refuses whoever expects another owner of a bucket, as S3 does and moto does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, cast

import pytest

OWNER = "111122223333"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class OwnedS3:
    """A storage whose buckets all belong to `OWNER`. `asked` are the requests, with the owner that each expects."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        expected = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER")
        self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], expected))
        if expected not in (None, OWNER):
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [_DENIED]
        return self._application(environ, start_response)

    def client(self) -> Any:
        """A client of its own, for what a test puts there."""
        boto3 = pytest.importorskip("boto3")
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")


@contextmanager
def owned_s3() -> Iterator[OwnedS3]:
    """Skips where moto is not installed."""
    werkzeug_app = pytest.importorskip("moto.moto_server.werkzeug_app")
    serving = pytest.importorskip("werkzeug.serving")
    application = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)
    storage = OwnedS3(cast(Callable[..., Iterable[bytes]], application))
    server = serving.make_server(
        "127.0.0.1", 0, storage, threaded=True, request_handler=werkzeug_app.MotoRequestHandler
    )
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    storage.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield storage
    finally:
        server.shutdown()
        thread.join()
