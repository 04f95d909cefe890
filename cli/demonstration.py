"""What `stepwell demo` needs: the examples and where they are, the services they call, and a whole Stepwell as a child process.

The story it tells is in `cli.commands.demo`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import stepwell
from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.serving import STOP_SECONDS, package_path
from stepwell.engine.settings import DEFAULT_PORT

START_SECONDS: Final = 180.0
LOG_LINES: Final = 15
STAND_IN_PORT: Final = 8090
STAND_IN_URL: Final = f"http://127.0.0.1:{STAND_IN_PORT}"
"""What the examples' inputs say; replaced by where the stand-ins listen."""


@dataclass(frozen=True, slots=True)
class Example:
    """One folder of the examples."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def root(self) -> Path:
        """The checkout, from which the example's modules are imported."""
        return self.folder.parent.parent

    @property
    def definition(self) -> str:
        return (self.folder / "definition.asl.json").read_text()

    @property
    def setup(self) -> dict[str, Any]:
        file = self.folder / "setup.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    @property
    def runs_alone(self) -> bool:
        """Whether nobody has to answer it, and no worker of another application is needed."""
        return not self.setup.get("answers") and not self.setup.get("celery_apps")

    def input(self, stand_ins: str) -> Any:
        return json.loads((self.folder / "input.json").read_text().replace(STAND_IN_URL, stand_ins))

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "expected.json").read_text())
        return found


def buckets_of(examples: Sequence[Example]) -> str:
    """`STEPWELL_BUCKETS` for these examples: the directories that stand for buckets."""
    return ",".join(
        f"{name}={one.folder / place}" for one in examples for name, place in one.setup.get("buckets", {}).items()
    )


def find_examples() -> list[Example]:
    """The examples: those beside the package in a checkout, else in the current directory."""
    for root in (Path(stepwell.__file__).absolute().parent.parent, Path.cwd()):
        found = sorted(file.parent for file in (root / "asl_examples").glob("*/definition.asl.json"))
        if found:
            return [Example(folder) for folder in found]
    raise Failure(
        "The examples are not here: they are part of a checkout of Stepwell. Run `make demo` there.",
        ExitCode.UNUSABLE,
        code="NoExamples",
    )


@contextmanager
def stand_ins(root: Path) -> Iterator[str]:
    """Run the services that the examples call, in a thread; their URL."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    services = importlib.import_module("asl_examples.stand_ins.server").StandIns()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stand-ins", daemon=True)
    thread.start()
    try:
        port = STAND_IN_PORT if port_is_free(STAND_IN_PORT) else 0
        yield asyncio.run_coroutine_threadsafe(services.start(port), loop).result(30)
    finally:
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(services.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def data_directory(given: Path | None) -> Iterator[Path]:
    """The directory named, else one that is removed again."""
    if given is not None:
        yield given.expanduser().absolute()
        return
    directory = Path(tempfile.mkdtemp(prefix="stepwell-demo-"))
    directory.chmod(0o711)  # the database may run as another user, who must pass through
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def own_command() -> str:
    """How this command is called from here: by its name if a shell finds it, else by its path."""
    own = Path(sys.executable).with_name("stepwell")
    if not own.exists() or shutil.which("stepwell") == str(own):
        return "stepwell"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def port_is_free(port: int) -> bool:
    """Whether somebody listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Server:
    """A `stepwell up` of our own. It ends with us, however we end."""

    def __init__(self, examples: Sequence[Example], data: Path, stand_ins_url: str, port: int | None) -> None:
        root = examples[0].root
        data.mkdir(parents=True, exist_ok=True)
        self._log_path = data / "up.log"
        self._log = self._log_path.open("ab")
        reading, self._lifeline = os.pipe()
        if port is None:
            port = DEFAULT_PORT if port_is_free(DEFAULT_PORT) else 0
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        environment = {
            **clean,
            "STEPWELL_FUNCTION_MODULES": ",".join(filter(None, (one.setup.get("functions") for one in examples))),
            "STEPWELL_CELERY_APP": "asl_examples.celery_app:app",
            "STEPWELL_BUCKETS": buckets_of(examples),
            "STEPWELL_HTTP_ALLOW": stand_ins_url.partition("://")[2],
            "PYTHONPATH": os.pathsep.join(filter(None, [package_path(), str(root), os.environ.get("PYTHONPATH", "")])),
        }
        command = [sys.executable, "-m", "stepwell.cli.main", "up", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--data-dir", str(data), "--workers", "2", "--lifeline", str(reading)]
        self._process = subprocess.Popen(  # noqa: S603 -- ourselves
            command, env=environment, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log,
            pass_fds=[reading], start_new_session=True,
        )  # fmt: skip
        os.close(reading)

    def wait_ready(self) -> str:
        """The URL, when requests are taken. Raises `Failure` with the end of the log when it does not come that far."""
        assert self._process.stdout is not None
        watch = threading.Timer(START_SECONDS, self._process.kill)
        watch.start()
        try:
            for line in self._process.stdout:
                found = re.match(rb"ready (http://\S+)", line)
                if found:
                    return found[1].decode()
        finally:
            watch.cancel()
        raise Failure(f"Stepwell did not start. The end of its log:\n{self.log_tail()}", code="NotStarted")

    def log_tail(self) -> str:
        """The last lines it logged."""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def close(self) -> None:
        """Stop it and all it started."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(2 * STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        os.close(self._lifeline)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


def without_catch(definition: str, state: str) -> dict[str, Any]:
    """A definition in which a state's errors are neither retried nor caught."""
    value: dict[str, Any] = json.loads(definition)
    for field in ("Retry", "Catch"):
        value["States"][state].pop(field, None)
    return _only_reachable(value)


def _only_reachable(definition: dict[str, Any]) -> dict[str, Any]:
    """Leave out states that nothing leads to any more."""
    states = definition["States"]
    reached: set[str] = set()
    waiting = [definition["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _leads_to(states[name])
    definition["States"] = {name: state for name, state in states.items() if name in reached}
    return definition


def _leads_to(state: dict[str, Any]) -> list[str]:
    nexts = [state.get("Next"), state.get("Default")]
    nexts += [entry.get("Next") for field in ("Choices", "Catch") for entry in state.get(field, [])]
    return [name for name in nexts if name is not None]
