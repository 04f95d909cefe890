"""Connections: how an HTTP Task authenticates. The only place of the engine where their secrets are opened.

Tokens of the client credentials grant are kept in memory until shortly before they expire, and asked for once however many
tasks wait. It must not know Task states; errors are `StatesError`s that name the connection and never a secret.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote, quote_plus, urlencode

from stepwell.engine import auth_parameters
from stepwell.engine.auth_parameters import AuthParameters, ClientAuthentication, OAuth, Parameter, header_fault
from stepwell.engine.clock import Clock
from stepwell.engine.errors import ConfigurationError, JsonTextError
from stepwell.engine.jsontypes import Json, read
from stepwell.engine.ports import ConnectionRecord
from stepwell.engine.secretbox import Redactor, SecretBox
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.guarded import Answer, Call, GuardedSession, parse_url
from stepwell.engine.targets.http_request import Additions

_TOKEN_SECONDS: Final = 30.0
"""How long a token endpoint may take."""
_DEFAULT_LIFETIME: Final = 300.0
"""How long a token is used whose answer has no `expires_in`."""
_SHOWN_CHARACTERS: Final = 500


class FindConnection(Protocol):
    """What is needed of `ports.ConnectionStore`."""

    async def get(self, name_or_arn: str) -> ConnectionRecord | None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection ready for one request. `token` is set where it can be renewed after a 401."""

    record: ConnectionRecord
    additions: Additions
    redactor: Redactor
    token: str | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    sealed: bytes
    text: str
    until: float


class Connections:
    """Opens connections. Bound to one event loop, like its session."""

    def __init__(self, store: FindConnection, box: SecretBox, session: GuardedSession, clock: Clock) -> None:
        self._store = store
        self._box = box
        self._session = session
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._asking: dict[tuple[str, bytes], asyncio.Task[str]] = {}

    async def open(self, name_or_arn: str, *, refused: str | None = None) -> Opened:
        """The connection, with a token if it needs one; `refused` is a token that is no longer good. Raises `StatesError`."""
        record = await self._find(name_or_arn)
        try:
            parameters = auth_parameters.unseal(self._box, record.name, record.secret)
        except ConfigurationError as error:
            raise StatesError(
                ErrorName.CONNECTION_INVALID, f"The connection {record.name} cannot be used. {error}"
            ) from None
        token: str | None = None
        if parameters.o_auth_parameters is not None:
            token = await self._token(record, parameters.o_auth_parameters, refused)
        headers = tuple(_authorization(parameters, token))
        added = parameters.invocation_http_parameters
        return Opened(
            record,
            Additions(
                (*_pairs(added.header_parameters), *headers),
                _pairs(added.query_string_parameters),
                _pairs(added.body_parameters),
            ),
            Redactor(_unshown([*parameters.secrets(), *(value for _, value in headers), *([token] if token else [])])),
            token,
        )

    async def close(self) -> None:
        """Give up token requests under way."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _find(self, name_or_arn: str) -> ConnectionRecord:
        record = await self._store.get(name_or_arn)
        if record is None and (match := _ARN.fullmatch(name_or_arn)):
            record = await self._store.get(match["name"])
        if record is None:
            raise StatesError(
                ErrorName.CONNECTION_NOT_FOUND,
                f"There is no connection {name_or_arn}. Make it, or correct ConnectionArn.",
            )
        return record

    async def _token(self, record: ConnectionRecord, oauth: OAuth, refused: str | None) -> str:
        kept = self._tokens.get(record.name)
        if (
            kept is not None
            and kept.sealed == record.secret
            and kept.text != refused
            and self._clock.monotonic() < kept.until
        ):
            return kept.text
        key = (record.name, record.secret)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(record, oauth), name=f"token of connection {record.name}")
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)

    def _asked(self, key: tuple[str, bytes], task: asyncio.Task[str]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may be left

    async def _ask(self, record: ConnectionRecord, oauth: OAuth) -> str:
        asked_at = self._clock.monotonic()
        try:
            answer = await self._session.fetch(_token_call(oauth), timeout_seconds=_TOKEN_SECONDS)
        except StatesError as error:
            raise StatesError(
                error.error, f"No token for the connection {record.name} could be had. {error.cause}"
            ) from None
        token, lifetime = _token_of(record.name, oauth, answer)
        margin = min(60.0, lifetime / 10)
        self._tokens[record.name] = _Token(record.secret, token, asked_at + lifetime - margin)
        return token


_ARN: Final = re.compile(r"arn:aws[a-z-]*:events:[^:]*:[^:]*:connection/(?P<name>[^/]+)(?:/[^/]+)?")


def _pairs(parameters: tuple[Parameter, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((each.key, each.value) for each in parameters)


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _authorization(parameters: AuthParameters, token: str | None) -> Iterator[tuple[str, str]]:
    if (key := parameters.api_key_auth_parameters) is not None:
        yield key.api_key_name, key.api_key_value
    if (basic := parameters.basic_auth_parameters) is not None:
        yield "Authorization", _basic(basic.username, basic.password)
    if token is not None:
        yield "Authorization", f"Bearer {token}"


def _unshown(secrets: list[str]) -> Iterator[str]:
    """The forms in which a service may repeat the secrets."""
    for secret in secrets:
        for text in (secret, secret.removeprefix("Basic ")):
            yield from (text, quote(text, safe=""), quote_plus(text))


def _token_call(oauth: OAuth) -> Call:
    """The token request (RFC 6749, 4.4.2)."""
    client, extra = oauth.client_parameters, oauth.o_auth_http_parameters
    fields = {"grant_type": "client_credentials"}
    if oauth.scope:
        fields["scope"] = oauth.scope
    headers = [("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")]
    if oauth.client_authentication is ClientAuthentication.BODY:
        fields |= {"client_id": client.client_id, "client_secret": client.client_secret}
    else:
        headers.append(("Authorization", _basic(quote_plus(client.client_id), quote_plus(client.client_secret))))
    fields |= dict(_pairs(extra.body_parameters))
    replaced = {each.key.lower() for each in extra.header_parameters}
    headers = [pair for pair in headers if pair[0].lower() not in replaced] + list(_pairs(extra.header_parameters))
    query = _pairs(extra.query_string_parameters)
    body: bytes | None = urlencode(fields).encode()
    if oauth.http_method == "GET":
        query, body = (*fields.items(), *query), None
    url = parse_url(oauth.authorization_endpoint)
    return Call(
        method=oauth.http_method,
        url=url.extend_query(query) if query else url,
        headers=headers,
        body=body,
        secret_headers=frozenset(name.lower() for name, _ in headers) - {"accept", "content-type"},
        secret_body=True,
    )


def _seconds(lifetime: Json) -> float:
    """`expires_in`: a number, which some servers write as text."""
    try:
        seconds = float(lifetime) if isinstance(lifetime, (str, int, float)) else _DEFAULT_LIFETIME
    except (ValueError, OverflowError):
        return _DEFAULT_LIFETIME
    return seconds if 0 <= seconds < float("inf") else _DEFAULT_LIFETIME


def _token_of(name: str, oauth: OAuth, answer: Answer) -> tuple[str, float]:
    """The token and its lifetime in seconds."""
    try:
        value: Json = read(answer.body)
    except JsonTextError:
        value = None
    if 200 <= answer.status < 300 and isinstance(value, Mapping):
        token, lifetime = value.get("access_token"), value.get("expires_in")
        if isinstance(token, str) and not header_fault("Authorization", token):
            return token, _seconds(lifetime)
    why = f"No token for the connection {name} could be had: its AuthorizationEndpoint"
    if 200 <= answer.status < 300:
        # What it sent may be a token all the same, under another name: only the names are shown.
        sent = ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) else "no JSON object"
        raise StatesError(
            ErrorName.CONNECTION_UNAUTHORIZED,
            f"{why} sent no usable access_token but answered {answer.status} with {sent[:_SHOWN_CHARACTERS]}",
        )
    client = oauth.client_parameters
    basic = _basic(quote_plus(client.client_id), quote_plus(client.client_secret))
    secrets = [client.client_secret, basic, *(each.value for each in oauth.o_auth_http_parameters)]
    shown = Redactor(_unshown(secrets)).text(answer.body.decode(errors="replace"))[:_SHOWN_CHARACTERS]
    raise StatesError(ErrorName.CONNECTION_UNAUTHORIZED, f"{why} answered {answer.status} {answer.reason}: {shown}")
