"""Every setting of Stepwell: its environment variable, its default and what it is for, in one table.

`Settings.load` reads them all at once and refuses what cannot be meant, naming the variable. Nothing else of the server reads
`STEPWELL_*`; workers, which know the engine's messages alone, read the few that concern them themselves. It must not know what
a setting switches.
"""

# ruff: noqa: RUF009 -- `_setting` is dataclasses.field with the table's columns

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stepwell.engine.errors import ConfigurationError

PREFIX: Final = "STEPWELL_"
DEFAULT_PORT: Final = 8083
UNLISTED: Final = frozenset({"STEPWELL_FAILPOINT", "STEPWELL_CONFORMANCE"})
"""Variables that are no settings: they arm tests."""


class _Unusable(ValueError):
    """Why a value is refused, as the end of a sentence."""


def _text(value: str) -> str:
    return value


def _names(value: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[,\s]+", value) if part)


def _path(value: str) -> Path:
    return Path(value).expanduser()


def _switch(value: str) -> bool:
    match value.lower():
        case "on" | "true" | "yes" | "1":
            return True
        case "off" | "false" | "no" | "0":
            return False
    raise _Unusable("must be on or off")


def _number(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or int(value) < least or (most is not None and int(value) > most):
            raise _Unusable(f"must be a whole number from {least}" + (f" to {most}" if most is not None else " on"))
        return int(value)

    return parse


def _seconds(least: float, unit: str = "seconds") -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or float(value) < least:
            raise _Unusable(f"must be a number of {unit}, at least {least:g}")
        return float(value)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise _Unusable(f"must be one of {', '.join(choices)}")
        return value.lower()

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        try:
            scheme = urlsplit(value).scheme
            _ = urlsplit(value).port
        except ValueError:
            raise _Unusable("is not a URL") from None
        if scheme not in schemes:
            raise _Unusable(f"must be a URL that begins with {' or '.join(f'{one}://' for one in schemes)}")
        return value

    return parse


def _base_url(value: str) -> str:
    return _url("http", "https")(value).rstrip("/")


def _template_url(value: str) -> str:
    if "{name}" not in value:
        raise _Unusable("must hold {name}, which the function's name is put for")
    return _url("http", "https")(value)


def _buckets(value: str) -> tuple[str, ...]:
    given = tuple(filter(None, map(str.strip, value.split(","))))
    for one in given:
        name, _, directory = one.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", name) or not directory:
            raise _Unusable("must be `name=/directory`, several of them separated by commas")
    return given


def _region(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,40}", value):
        raise _Unusable("must be the name of a region, such as us-east-1")
    return value


def _account(value: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", value):
        raise _Unusable("must be an account number of twelve digits")
    return value


def _setting(
    variable: str, parse: Callable[[str], object], default: object, about: str, *, secret: bool = False
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={"variable": variable, "parse": parse, "about": about, "secret": secret},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process. A field's metadata holds its variable, its meaning and whether it is secret."""

    database_url: str | None = _setting(
        "STEPWELL_DATABASE_URL", _url("postgresql", "postgres"), None,
        "The PostgreSQL to keep everything in. Without it `stepwell up` starts one of its own.", secret=True,
    )  # fmt: skip
    broker_url: str | None = _setting(
        "STEPWELL_BROKER_URL", _url("redis", "rediss", "amqp", "amqps", "unix", "redis+socket", "sqs", "memory"), None,
        "The broker of the Celery workers. Without it `stepwell up` starts a Valkey of its own.", secret=True,
    )  # fmt: skip
    host: str = _setting("STEPWELL_HOST", _text, "127.0.0.1", "The address the API listens on.")
    port: int = _setting(
        "STEPWELL_PORT", _number(0, 65_535), DEFAULT_PORT, "The port the API listens on; 0 takes a free one."
    )
    allowed_hosts: tuple[str, ...] = _setting(
        "STEPWELL_ALLOWED_HOSTS",
        _names,
        (),
        "Host names, beside those of the loopback, that requests may be addressed to.",
    )
    open: bool = _setting(
        "STEPWELL_OPEN",
        _switch,
        False,
        "Whether an API without keys may listen for other machines, because something else keeps strangers out.",
    )
    listen_host: str = _setting(
        "STEPWELL_LISTEN_HOST", _text, "127.0.0.1", "The address on which an engine answers other engines."
    )
    listen_port: int = _setting(
        "STEPWELL_LISTEN_PORT",
        _number(0, 65_535),
        0,
        "The port on which an engine answers other engines; 0 takes a free one.",
    )
    advertise: str | None = _setting(
        "STEPWELL_ADVERTISE",
        _text,
        None,
        "`host:port` at which other engines reach this one; by default where it listens, under this machine's name if that is everywhere.",
    )
    data_dir: Path = _setting(
        "STEPWELL_DATA_DIR", _path, Path(".stepwell"),
        "Where `stepwell up` keeps its database, its key and its sockets; by default .stepwell in the current directory.",
    )  # fmt: skip
    health_port: int = _setting(
        "STEPWELL_HEALTH_PORT",
        _number(0, 65_535),
        0,
        "Where `stepwell engine` answers /healthz, /readyz and /metrics; 0: nowhere.",
    )
    region: str = _setting("STEPWELL_REGION", _region, "us-east-1", "The region in ARNs.")
    account: str = _setting("STEPWELL_ACCOUNT", _account, "000000000000", "The account in ARNs.")
    url: str = _setting(
        "STEPWELL_URL", _base_url, f"http://127.0.0.1:{DEFAULT_PORT}", "The server that client commands talk to."
    )
    buckets: tuple[str, ...] = _setting(
        "STEPWELL_BUCKETS",
        _buckets,
        (),
        "Buckets that are directories of the engine's machine, as `name=/directory`, separated by commas: Distributed Maps read items "
        "from them and write results to them without S3.",
    )
    s3_endpoint_url: str | None = _setting(
        "STEPWELL_S3_ENDPOINT_URL",
        _base_url,
        None,
        "The S3-compatible storage of all other buckets; by default what boto3 finds (AWS_ENDPOINT_URL_S3), else AWS's.",
    )
    api_key: str | None = _setting(
        "STEPWELL_API_KEY", _text, None, "The bearer key that client commands show.", secret=True
    )
    secret_key: str | None = _setting(
        "STEPWELL_SECRET_KEY", _text, None,
        "Keys that seal stored secrets: base64 of 32 bytes, newest first, separated by commas. Without it a key file in the "
        "data directory is used; several hosts on one database must share this variable.", secret=True,
    )  # fmt: skip
    http_allow: str = _setting(
        "STEPWELL_HTTP_ALLOW", _text, "",
        "Addresses, networks and host names that are not on the public internet and that HTTP tasks may call all the same.",
    )  # fmt: skip
    http_timeout: float = _setting(
        "STEPWELL_HTTP_TIMEOUT", _seconds(0.001), 60.0,
        "How long an HTTP task may take where its TimeoutSeconds does not say less.",
    )  # fmt: skip
    http_redirects: int = _setting(
        "STEPWELL_HTTP_REDIRECTS", _number(0, 20), 5, "How many redirects an HTTP task follows; 0 follows none."
    )
    http_connections: int = _setting(
        "STEPWELL_HTTP_CONNECTIONS",
        _number(1, 100_000),
        1000,
        "How many connections an engine keeps for HTTP tasks at once.",
    )
    http_ca_file: Path | None = _setting(
        "STEPWELL_HTTP_CA_FILE", _path, None,
        "Certificates (PEM) that HTTP tasks trust beside those of the system.",
    )  # fmt: skip
    reveal_secrets: bool = _setting(
        "STEPWELL_REVEAL_SECRETS", _switch, False,
        "Whether a test of a state may show what a connection adds to an HTTP request (`revealSecrets`).",
    )  # fmt: skip
    function_modules: tuple[str, ...] = _setting(
        "STEPWELL_FUNCTION_MODULES", _names, (), "Python modules whose functions state machines may call (`*`: any)."
    )
    function_processes: int = _setting(
        "STEPWELL_FUNCTION_PROCESSES", _number(1, 256), 1, "Function host processes that each engine starts for them."
    )
    function_threads: int = _setting(
        "STEPWELL_FUNCTION_THREADS", _number(1, 10_000), 64, "Functions that one host runs at once, beside async ones."
    )
    function_hosts: tuple[str, ...] = _setting(
        "STEPWELL_FUNCTION_HOSTS", _names, (),
        "Function hosts that run elsewhere: `unix:/path` or `host:port`, separated by commas.",
    )  # fmt: skip
    function_secret: str | None = _setting(
        "STEPWELL_FUNCTION_SECRET",
        _text,
        None,
        "What engine and function hosts on TCP prove to each other.",
        secret=True,
    )
    function_url: str | None = _setting(
        "STEPWELL_FUNCTION_URL", _template_url, None,
        "Where functions that are not registered are invoked: a Lambda-compatible URL with {name} in it.",
    )  # fmt: skip
    celery_app: str | None = _setting(
        "STEPWELL_CELERY_APP",
        _text,
        None,
        "The Celery application that `stepwell up` and `stepwell worker` run, as `module:app`.",
    )
    default_queue: str = _setting(
        "STEPWELL_QUEUE", _text, "celery", "The queue of Celery tasks whose Resource names none."
    )
    notify: bool = _setting(
        "STEPWELL_NOTIFY",
        _switch,
        True,
        "Whether nodes wake each other by NOTIFY. Off, they find work by polling alone.",
    )
    lease_seconds: float = _setting(
        "STEPWELL_LEASE_SECONDS", _seconds(1), 10.0, "How long a node that fell silent keeps its executions."
    )
    retention_days: int = _setting(
        "STEPWELL_RETENTION_DAYS", _number(1, 36_500), 90, "How long ended executions and their history are kept."
    )
    express_bytes: int = _setting(
        "STEPWELL_EXPRESS_BYTES", _number(1_000_000, 1_000_000_000_000), 268_435_456,
        "How much data the Express executions on one engine may hold in memory; beyond it, starts are refused for a while. Children "
        "of Map Runs take up to three quarters of it, and wait beyond that.",
    )  # fmt: skip
    express_retention_hours: float = _setting(
        "STEPWELL_EXPRESS_RETENTION_HOURS", _seconds(0, "hours"), 24.0,
        "How many hours the results of asynchronous Express executions are kept; 0 keeps none.",
    )  # fmt: skip
    express_drain_seconds: float = _setting(
        "STEPWELL_EXPRESS_DRAIN_SECONDS", _seconds(0), 5.0,
        "How long an engine that is stopped waits for its Express executions to end.",
    )  # fmt: skip
    pool_size: int = _setting("STEPWELL_POOL_SIZE", _number(2, 1000), 16, "Database connections of a process.")
    log_format: str = _setting("STEPWELL_LOG_FORMAT", _one_of("text", "json"), "text", "How log lines are written.")
    log_level: str = _setting(
        "STEPWELL_LOG_LEVEL",
        _one_of("debug", "info", "warning", "error"),
        "info",
        "The least severe line that is logged.",
    )
    debug: bool = _setting("STEPWELL_DEBUG", _switch, False, "Whether the command shows stack traces of its errors.")

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> Settings:
        """Read all settings. An empty variable counts as absent. Raises `ConfigurationError` naming the first unusable one."""
        values: dict[str, Any] = {}
        for one in fields(cls):
            given = environment.get(one.metadata["variable"], "").strip()
            if given:
                values[one.name] = parse_setting(one, given)
        return cls(**values)


def parse_setting(setting: Field[Any], given: str) -> Any:
    """The value of one setting's text. Raises `ConfigurationError`; the text of a secret is not repeated."""
    variable = setting.metadata["variable"]
    try:
        return setting.metadata["parse"](given)
    except _Unusable as error:
        shown = "" if setting.metadata["secret"] else f" ({given!r})"
        raise ConfigurationError(f"{variable}{shown} {error}. {setting.metadata['about']}") from None


def all_settings() -> tuple[Field[Any], ...]:
    """The table: one dataclass field a setting."""
    return fields(Settings)


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none: most likely misspelt."""
    known = {one.metadata["variable"] for one in fields(Settings)} | UNLISTED
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
