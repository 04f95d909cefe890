"""Child processes of a run: started, listened to line by line, and ended, whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Final, Self

ROOT: Final = Path(__file__).parent.parent
STOP_SECONDS: Final = 20.0


class Child:
    """A process of a session of its own, with pipes for its input and output; what it logs goes to a file."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        self._command = command
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}, start_new_session=True,
            )  # fmt: skip
        self._lines: Queue[str | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def line(self, seconds: float) -> str:
        """The next line of its output; ends the run when there is none in time."""
        try:
            line = self._lines.get(timeout=seconds)
        except Empty:
            line = None
        if line is None:
            raise SystemExit(f"`{' '.join(self._command)}` gave no answer. Its log ends:\n{self.log_tail()}")
        return line

    def ask(self, question: str, seconds: float) -> str:
        """Write a line, and read one."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self.line(seconds)

    def log_tail(self) -> str:
        """The end of what it logged."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def close(self) -> None:
        """Ask it to stop; kill what is left of its session."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
