"""The `AuthParameters` of a connection, as EventBridge's CreateConnection takes them: read, checked, shown without secrets.

The service writes connections with this and the HTTP target reads them. It must not know how either stores or sends them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

import msgspec

from stepwell.engine.errors import ConfigurationError
from stepwell.engine.secretbox import SecretBox


class AuthType(StrEnum):
    """How a connection authenticates."""

    API_KEY = "API_KEY"
    BASIC = "BASIC"
    OAUTH_CLIENT_CREDENTIALS = "OAUTH_CLIENT_CREDENTIALS"


class _Members(msgspec.Struct, rename="pascal", omit_defaults=True, forbid_unknown_fields=True, frozen=True):
    """Base of the structs below: members are written in Pascal case, as in AWS's API; others are refused."""


class Parameter(_Members, frozen=True):
    """A header, query or body parameter that a connection adds. `is_value_secret`: the value is never shown."""

    key: str
    value: str = ""
    is_value_secret: bool = False


class HttpParameters(_Members, frozen=True):
    """What a connection adds to each request; it wins over what the definition says."""

    header_parameters: tuple[Parameter, ...] = ()
    query_string_parameters: tuple[Parameter, ...] = ()
    body_parameters: tuple[Parameter, ...] = ()

    def __iter__(self) -> Iterator[Parameter]:
        yield from self.header_parameters
        yield from self.query_string_parameters
        yield from self.body_parameters


class ApiKeyAuth(_Members, frozen=True):
    """A key sent as the value of a header."""

    api_key_name: str
    api_key_value: str = ""


class BasicAuth(_Members, frozen=True):
    """User name and password, sent as HTTP Basic authentication."""

    username: str
    password: str = ""


class OAuthClient(_Members, frozen=True):
    """The client that asks for tokens."""

    client_id: str = msgspec.field(name="ClientID")
    client_secret: str = ""


class ClientAuthentication(StrEnum):
    """Where a token request carries the client's secret (RFC 6749, 2.3.1)."""

    BASIC = "BASIC"
    BODY = "BODY"


class OAuth(_Members, frozen=True):
    """The client credentials grant. `client_authentication` and `scope` are additions to AWS's members."""

    authorization_endpoint: str
    client_parameters: OAuthClient
    http_method: str = "POST"
    o_auth_http_parameters: HttpParameters = HttpParameters()
    client_authentication: ClientAuthentication = ClientAuthentication.BASIC
    scope: str = ""


class AuthParameters(_Members, frozen=True):
    """Exactly one way to authenticate, and parameters added to each request."""

    api_key_auth_parameters: ApiKeyAuth | None = None
    basic_auth_parameters: BasicAuth | None = None
    o_auth_parameters: OAuth | None = None
    invocation_http_parameters: HttpParameters = HttpParameters()

    @property
    def type(self) -> AuthType:
        """The way there is."""
        if self.api_key_auth_parameters is not None:
            return AuthType.API_KEY
        return AuthType.BASIC if self.basic_auth_parameters is not None else AuthType.OAUTH_CLIENT_CREDENTIALS

    def secrets(self) -> Iterator[str]:
        """Every value that must never be shown."""
        if self.api_key_auth_parameters is not None:
            yield self.api_key_auth_parameters.api_key_value
        if self.basic_auth_parameters is not None:
            yield self.basic_auth_parameters.password
        if self.o_auth_parameters is not None:
            yield self.o_auth_parameters.client_parameters.client_secret
            yield from (each.value for each in self.o_auth_parameters.o_auth_http_parameters if each.is_value_secret)
        yield from (each.value for each in self.invocation_http_parameters if each.is_value_secret)

    def public(self) -> str:
        """JSON text without the secrets: what describing a connection shows."""
        api_key, basic, oauth = self.api_key_auth_parameters, self.basic_auth_parameters, self.o_auth_parameters
        if oauth is not None:
            oauth = msgspec.structs.replace(
                oauth,
                client_parameters=OAuthClient(oauth.client_parameters.client_id),
                o_auth_http_parameters=_without_secrets(oauth.o_auth_http_parameters),
            )
        shown = AuthParameters(
            api_key and ApiKeyAuth(api_key.api_key_name),
            basic and BasicAuth(basic.username),
            oauth,
            _without_secrets(self.invocation_http_parameters),
        )
        return msgspec.json.encode(shown).decode()

    def seal(self, box: SecretBox, name: str) -> bytes:
        """What `ConnectionRecord.secret` of the connection `name` holds."""
        return box.encrypt(msgspec.json.encode(self), _context(name))


def _without_secrets(parameters: HttpParameters) -> HttpParameters:
    def shown(each: Parameter) -> Parameter:
        return msgspec.structs.replace(each, value="") if each.is_value_secret else each

    return HttpParameters(
        tuple(map(shown, parameters.header_parameters)),
        tuple(map(shown, parameters.query_string_parameters)),
        tuple(map(shown, parameters.body_parameters)),
    )


def _context(name: str) -> str:
    return f"connection/{name}"


def parse(text: str | bytes, type: str | None = None) -> AuthParameters:
    """Read AuthParameters; `type` is the AuthorizationType they must have. Raises `ConfigurationError` for whom they are wrong."""
    try:
        parameters = msgspec.json.decode(text, type=AuthParameters)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ConfigurationError(f"AuthParameters cannot be used: {error}.") from None
    ways = [parameters.api_key_auth_parameters, parameters.basic_auth_parameters, parameters.o_auth_parameters]
    if sum(way is not None for way in ways) != 1:
        raise ConfigurationError(
            "AuthParameters must have exactly one of ApiKeyAuthParameters, BasicAuthParameters and OAuthParameters."
        )
    if type is not None and type != parameters.type:
        raise ConfigurationError(
            f"AuthorizationType is {type}, but AuthParameters are those of {parameters.type}. Make them agree."
        )
    if parameters.o_auth_parameters is not None:
        _check_oauth(parameters.o_auth_parameters)
    for each in parameters.invocation_http_parameters.header_parameters:
        _check_header(each.key, each.value)
    if (key := parameters.api_key_auth_parameters) is not None:
        _check_header(key.api_key_name, key.api_key_value)
    if (basic := parameters.basic_auth_parameters) is not None and ":" in basic.username:
        raise ConfigurationError(
            "The Username of BasicAuthParameters has a colon; HTTP Basic authentication allows none."
        )
    return parameters


_TOKEN_METHODS: Final = ("GET", "POST", "PUT")
_TOKEN_CHARACTERS: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def header_fault(name: str, value: str) -> str | None:
    """What is wrong with a header (RFC 9110, 5.1 and 5.5); None if nothing is. Never shows the value."""
    if not name or not _TOKEN_CHARACTERS.issuperset(name):
        return f"{name!r} is not a valid name of an HTTP header"
    if any((ord(character) < 32 and character != "\t") or ord(character) == 127 for character in value):
        return f"the value of the HTTP header {name} has control characters (a line break, perhaps)"
    return None


def _check_header(name: str, value: str) -> None:
    if fault := header_fault(name, value):
        raise ConfigurationError(f"AuthParameters cannot be used: {fault}.")


def _check_oauth(oauth: OAuth) -> None:
    if oauth.http_method not in _TOKEN_METHODS:
        raise ConfigurationError(
            f"HttpMethod of OAuthParameters is {oauth.http_method!r}; it must be GET, POST or PUT."
        )
    if urlsplit(oauth.authorization_endpoint).scheme not in ("http", "https"):
        raise ConfigurationError("AuthorizationEndpoint of OAuthParameters must be an https:// (or http://) URL.")
    for each in oauth.o_auth_http_parameters.header_parameters:
        _check_header(each.key, each.value)


def unseal(box: SecretBox, name: str, secret: bytes) -> AuthParameters:
    """The AuthParameters that were sealed for the connection `name`. Raises `ConfigurationError`."""
    return parse(box.decrypt(secret, _context(name)))
