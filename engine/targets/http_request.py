"""From the Parameters of an HTTP Task to the request it means: read, checked, joined with what a connection adds, encoded.

Pure: it sends nothing and knows no connection store. Every fault is a States.Runtime that names the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeGuard, TypeVar
from urllib.parse import quote_plus

from yarl import URL

from stepwell.engine.auth_parameters import header_fault
from stepwell.engine.jsontypes import Json, write, write_text
from stepwell.engine.limits import MAX_PAYLOAD_BYTES
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.guarded import Call, parse_url

METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")
FIELDS: Final = (
    "ApiEndpoint",
    "Method",
    "Authentication",
    "InvocationConfig",
    "Headers",
    "QueryParameters",
    "RequestBody",
    "Transform",
)

_FORBIDDEN_HEADERS: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)
_FORBIDDEN_PREFIXES: Final = ("x-forwarded-", "x-amz-", "x-amzn-", "proxy-", "stepwell-")
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"


class BodyEncoding(StrEnum):
    """Transform.RequestBodyEncoding."""

    NONE = "NONE"
    URL_ENCODED = "URL_ENCODED"


class ArrayFormat(StrEnum):
    """Transform.RequestEncodingOptions.ArrayFormat: how an array becomes form fields."""

    INDICES = "INDICES"
    REPEAT = "REPEAT"
    COMMAS = "COMMAS"
    BRACKETS = "BRACKETS"
    NONE = "NONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpParameters:
    """The Parameters (or Arguments) of `http:invoke`, checked. `body` None means none."""

    url: URL
    method: str
    connection: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    body: Json = None
    encoding: BodyEncoding = BodyEncoding.NONE
    arrays: ArrayFormat = ArrayFormat.INDICES


@dataclass(frozen=True, slots=True)
class Additions:
    """What a connection adds to a request; each wins over the definition's parameter of the same name."""

    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    body: tuple[tuple[str, str], ...] = ()


NOTHING: Final = Additions()


def invalid(text: str) -> StatesError:
    """The error for Parameters that mean no request."""
    return StatesError(ErrorName.RUNTIME, f"The Parameters of this HTTP Task cannot be used: {text}.")


def read_parameters(value: Json) -> HttpParameters:
    """Check the Parameters of a task. Raises `StatesError` (States.Runtime)."""
    fields = _object(value, "they")
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise invalid(f"there is no field {unknown[0]!r}; the fields are {', '.join(FIELDS)}")
    endpoint, method = fields.get("ApiEndpoint"), fields.get("Method")
    if not isinstance(endpoint, str) or not endpoint:
        raise invalid("ApiEndpoint must be the URL to call")
    if not isinstance(method, str) or method not in METHODS:
        raise invalid(f"Method must be one of {', '.join(METHODS)}, not {_brief(method)}")
    transform = _object(fields.get("Transform"), "Transform")
    options = _object(transform.get("RequestEncodingOptions"), "Transform.RequestEncodingOptions")
    return HttpParameters(
        url=parse_url(endpoint),
        method=method,
        connection=_connection(fields),
        headers=tuple(_headers(_object(fields.get("Headers"), "Headers"))),
        query=tuple(_pairs(_object(fields.get("QueryParameters"), "QueryParameters"), "QueryParameters")),
        body=fields.get("RequestBody"),
        encoding=_choice(BodyEncoding, transform.get("RequestBodyEncoding"), "Transform.RequestBodyEncoding"),
        arrays=_choice(ArrayFormat, options.get("ArrayFormat"), "Transform.RequestEncodingOptions.ArrayFormat"),
    )


def build_call(parameters: HttpParameters, additions: Additions, defaults: Mapping[str, str]) -> Call:
    """The request to send. `defaults` are headers that the definition's and the connection's win over."""
    form = parameters.encoding is BodyEncoding.URL_ENCODED
    headers = _joined(list(defaults.items()), parameters.headers, additions.headers)
    names = {name.lower(): value for name, value in headers}
    if "content-type" not in names:
        headers.append(("Content-Type", _FORM if form else _JSON))
    content_type = names.get("content-type", _FORM if form else _JSON)
    body = _with_members(parameters.body, additions.body)
    return Call(
        method=parameters.method,
        url=_with_query(parameters.url, parameters.query, additions.query),
        headers=headers,
        body=None if body is None else _encoded(body, content_type, parameters.arrays if form else None),
        secret_headers=frozenset(name.lower() for name, _ in additions.headers),
        secret_body=bool(additions.body),
    )


def direct_call(url: str, payload: bytes, defaults: Mapping[str, str]) -> Call:
    """The request of a Resource that is a URL itself: POST the effective input."""
    return Call(method="POST", url=parse_url(url), headers=[*defaults.items(), ("Content-Type", _JSON)], body=payload)


def form_fields(value: Mapping[str, Json], arrays: ArrayFormat) -> Iterator[tuple[str, str]]:
    """The fields of a form: members of objects as `parent[member]`, arrays as `arrays` says, scalars as text."""
    for name, member in value.items():
        yield from _field(name, member, arrays)


def _field(name: str, value: Json, arrays: ArrayFormat) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for member, inner in value.items():
            yield from _field(f"{name}[{member}]", inner, arrays)
    elif not _is_array(value):
        yield name, _scalar(value)
    elif arrays is ArrayFormat.NONE:
        yield name, write_text(value)
    elif arrays is ArrayFormat.COMMAS:
        yield (
            name,
            ",".join(
                write_text(each) if isinstance(each, Mapping) or _is_array(each) else _scalar(each) for each in value
            ),
        )
    else:
        for index, each in enumerate(value):
            suffix = {ArrayFormat.INDICES: f"[{index}]", ArrayFormat.BRACKETS: "[]", ArrayFormat.REPEAT: ""}[arrays]
            yield from _field(name + suffix, each, arrays)


def _is_array(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, (list, tuple))


def _scalar(value: Json) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else write_text(value)


def _encoded(body: Json, content_type: str, arrays: ArrayFormat | None) -> bytes:
    media_type = content_type.partition(";")[0].strip().lower()
    if arrays is not None:
        if isinstance(body, str):
            return body.encode()
        if not isinstance(body, Mapping):
            raise invalid(
                "RequestBody must be an object (or text already encoded) with RequestBodyEncoding URL_ENCODED"
            )
        encoded = "&".join(
            f"{quote_plus(name)}={quote_plus(value)}" for name, value in form_fields(body, arrays)
        ).encode()
    elif isinstance(body, str) and not (media_type == _JSON or media_type.endswith("+json")):
        encoded = body.encode()
    else:
        encoded = write(body)
    if len(encoded) > 2 * MAX_PAYLOAD_BYTES:
        raise StatesError(ErrorName.DATA_LIMIT_EXCEEDED, "The encoded RequestBody is too large.")
    return encoded


def _with_members(body: Json, members: tuple[tuple[str, str], ...]) -> Json:
    if not members:
        return body
    if body is not None and not isinstance(body, Mapping):
        raise invalid("RequestBody must be an object, because the connection adds members to it")
    return {**(body or {}), **dict(members)}


def _with_query(url: URL, own: tuple[tuple[str, str], ...], added: tuple[tuple[str, str], ...]) -> URL:
    if not own and not added:
        return url
    replaced = {name for name, _ in added}
    pairs = [pair for pair in (*url.query.items(), *own) if pair[0] not in replaced]
    return url.with_query([*pairs, *added])


def _joined(*layers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers of several layers; a name in a later layer replaces it in the earlier ones."""
    result: list[tuple[str, str]] = []
    for layer in layers:
        names = {name.lower() for name, _ in layer}
        result = [pair for pair in result if pair[0].lower() not in names] + list(layer)
    return result


def _connection(fields: Mapping[str, Json]) -> str | None:
    if "Authentication" in fields and "InvocationConfig" in fields:
        raise invalid("Authentication and InvocationConfig both name a connection; keep one")
    for field in ("Authentication", "InvocationConfig"):
        if field in fields:
            arn = _object(fields[field], field).get("ConnectionArn")
            if not isinstance(arn, str) or not arn:
                raise invalid(f"{field}.ConnectionArn must be the ARN (or the name) of a connection")
            return arn
    return None


def _headers(fields: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for name, value in _pairs(fields, "Headers"):
        if fault := header_fault(name, value):
            raise invalid(f"Headers: {fault}")
        lower = name.lower()
        if lower in _FORBIDDEN_HEADERS or lower.startswith(_FORBIDDEN_PREFIXES):
            hint = "; a connection sends credentials" if lower in ("authorization", "cookie") else ""
            raise invalid(f"the header {name} may not be set by a definition{hint}")
        yield name, value


def _pairs(fields: Mapping[str, Json], where: str) -> Iterator[tuple[str, str]]:
    """Names and texts; an array gives its name several."""
    for name, value in fields.items():
        for each in value if _is_array(value) else (value,):
            if each is None or isinstance(each, Mapping) or _is_array(each):
                raise invalid(f"{where}.{name} must be text, a number or a boolean (or an array of such)")
            yield name, _scalar(each)


def _object(value: Json, where: str) -> Mapping[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise invalid(f"{where} must be a JSON object, not {_brief(value)}")
    return value


Choice = TypeVar("Choice", bound=StrEnum)


def _choice(kind: type[Choice], value: Json, where: str) -> Choice:
    if value is None:
        return next(iter(kind))
    if not isinstance(value, str) or value not in list(kind):
        raise invalid(f"{where} must be one of {', '.join(kind)}, not {_brief(value)}")
    return kind(value)


def _brief(value: Json) -> str:
    text = "absent" if value is None else write_text(value)
    return text if len(text) <= 60 else text[:57] + "..."
