"""How a command ends badly: one exception, its exit code, and how it is shown. It must not know what the commands do."""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import IO, Any, Final

import click

from stepwell.engine.errors import ConfigurationError, StepwellError, StoreUnavailableError


class ExitCode(IntEnum):
    """What the command's exit code says; `EXIT_CODES` tells it to people."""

    OK = 0
    FAILED = 1
    UNUSABLE = 2
    UNFINISHED = 3
    INTERRUPTED = 130


EXIT_CODES: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "it worked",
    ExitCode.FAILED: "the thing failed: the execution, the definition, the check, or the server refused",
    ExitCode.UNUSABLE: "nothing was done: wrong usage, a wrong setting, or no server to reach",
    ExitCode.UNFINISHED: "the time to wait is up and the execution still runs",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}


class Failure(click.ClickException):
    """The command ends with this message. `code` is a stable name for machines; `details` goes into the JSON form."""

    def __init__(
        self,
        message: str,
        exit_code: ExitCode = ExitCode.FAILED,
        *,
        code: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)  # type: ignore[misc] # click reads it from the instance
        self.code = code
        self.details = details or {}
        self.as_json = False

    def show(self, file: IO[Any] | None = None) -> None:
        """To people on stderr; with `--json`, as the one document on stdout."""
        if self.as_json:
            error = {"code": self.code, "message": self.message, "exitCode": self.exit_code, **self.details}
            click.echo(json.dumps({"error": error}, ensure_ascii=False))
        else:
            click.echo(click.style("Error: ", fg="red", bold=True) + self.message, err=True)


def as_failure(error: Exception) -> Failure:
    """What to tell the user about an exception that reached the top."""
    if isinstance(error, ConfigurationError | StoreUnavailableError):
        return Failure(str(error), ExitCode.UNUSABLE, code=type(error).__name__.removesuffix("Error"))
    if isinstance(error, StepwellError):
        return Failure(str(error), ExitCode.FAILED, code=type(error).__name__.removesuffix("Error"))
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("stepwell."):
        return Failure(
            f"This command needs the package '{error.name}', which is not installed here. "
            "Install all of a server with: pip install 'stepwell[server,embedded]'",
            ExitCode.UNUSABLE,
            code="NotInstalled",
        )
    return Failure(
        f"Something unexpected went wrong ({type(error).__name__}: {error}). "
        "This is a fault of Stepwell; run the command again with STEPWELL_DEBUG=1 to see where it arose.",
        code="Internal",
    )


def fail_hard(code: ExitCode) -> None:
    """End the process with a code, saying nothing more."""
    sys.exit(int(code))
