"""Real processes under test: started in a group of their own, listened to, signalled, and always cleaned up."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 60.0
READY = r"\bready (https?://\S+)"


class RunningProcess:
    """A process and all it starts (but what it detaches on purpose). Its output, both streams in one, is kept.

    `user` is the id of the user to run as, with no group but its own; it needs us to be root.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        user: int | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            cwd=directory,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._process.poll()

    def children(self, having: str) -> list[int]:
        """The ids of processes it has started whose command says so."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.pid and having in (place / "cmdline").read_text():
                    found.append(int(place.name))
        return found

    @property
    def output(self) -> str:
        """All that was said so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, deadline: float = DEADLINE) -> re.Match[str]:
        """Wait until the output holds a match. Fails, showing the output, when the output ends or time is up first."""
        until = time.monotonic() + deadline
        with self._changed:
            while True:
                text = "".join(self._lines)
                if found := re.search(pattern, text, re.MULTILINE):
                    return found
                if self._ended or not self._changed.wait(until - time.monotonic()):
                    why = "ended" if self._ended else f"ran {deadline:g} s"
                    raise AssertionError(f"{self} {why} without saying {pattern!r}. It said:\n{text}")

    def ready_url(self, deadline: float = DEADLINE) -> str:
        """Wait for the line `ready http://HOST:PORT`, and return the URL."""
        return self.wait_for(READY, deadline)[1]

    def tell(self, text: str) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._process.send_signal(number)

    def send_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all it started, as a terminal does with Ctrl-C."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, to the process alone; returns when it is dead."""
        self.send(signal.SIGKILL)
        self._process.wait(DEADLINE)

    def kill_group(self) -> None:
        """SIGKILL to all at once, as when the machine loses power; returns when the process is dead."""
        self.send_group(signal.SIGKILL)
        self._process.wait(DEADLINE)

    def pause(self) -> None:
        """SIGSTOP: the process hangs, as in a long pause of its machine. Returns when it has stopped."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, to the process alone; does not wait."""
        self.send(signal.SIGTERM)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait for the end; the exit code. Fails, showing the output, when time is up first."""
        try:
            code = self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} still runs after {deadline:g} s. It said:\n{self.output}") from None
        self._reader.join(deadline)
        return code

    def close(self) -> None:
        """Kill whatever is left of the group and let go of the pipes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.decode(errors="replace"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __str__(self) -> str:
        return f"`{' '.join(self.command)}` (pid {self.pid})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
