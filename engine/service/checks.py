"""Rules that several use-cases share: ARNs and their kinds, names, and JSON text that comes from outside."""

from __future__ import annotations

from stepwell.engine import limits
from stepwell.engine.asl import source
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.errors import JsonTextError
from stepwell.engine.ids import StatesArn, parse_arn, valid_name
from stepwell.engine.jsontypes import MAX_DEPTH, Document, Json
from stepwell.engine.service import refusals
from stepwell.engine.service.refusals import ValidationReason

MACHINE = "stateMachine"
EXECUTION = "execution"
ACTIVITY = "activity"


def arn_of(text: str, kind: str) -> StatesArn:
    """The ARN, which must be one of this kind."""
    if not text.startswith("arn:"):
        raise refusals.invalid_arn(f"Invalid ARN prefix: {text}")
    arn = parse_arn(text)
    if arn is None:
        raise refusals.invalid_arn(f"Malformed ARN: {text}")
    if arn.kind != kind:
        raise refusals.invalid_arn(f"Resource type not valid in this context: {arn.kind}")
    return arn


def unlabeled(arn: StatesArn) -> None:
    """Refuse the ARN of a Distributed Map inside a state machine."""
    if "/" in arn.name:
        raise refusals.invalid(
            "This operation does not support the ARN of a Map state", reason=ValidationReason.LABELED_ARN
        )


def name_of(name: str) -> str:
    """A name that a state machine, execution or activity may bear."""
    if not valid_name(name):
        raise refusals.invalid_name(name)
    return name


def no_nul(text: str | None, member: str) -> str | None:
    """Text without U+0000, which the store cannot keep."""
    if text is not None and "\x00" in text:
        raise refusals.invalid(f"'{member}' holds the character U+0000, which is not accepted", pointer=f"/{member}")
    return text


def size_fault(raw: bytes, member: str) -> str | None:
    """The breach of the payload limit, in the words of a constraint; None if there is none."""
    if len(raw) <= limits.MAX_PAYLOAD_BYTES:
        return None
    shown = raw[:64].decode("utf-8", "replace")
    rule = f"have length less than or equal to {limits.MAX_PAYLOAD_BYTES}"
    return refusals.constraint(member, f"'{shown}...'", rule)


def document_of(raw: bytes) -> Document:
    """The document a text holds. Raises `JsonTextError` with a message in the words of AWS's parser."""
    if (raw.count(b"[") + raw.count(b"{")) > MAX_DEPTH:
        check_depth(raw)
    try:
        return Document.parse(raw)
    except JsonTextError as error:
        raise JsonTextError(_parser_words(raw, str(error))) from None


def check_depth(raw: bytes) -> None:
    """Refuse text nested more deeply than `MAX_DEPTH`, without recursion. Raises `JsonTextError`."""
    depth = 0
    quoted = escaped = False
    for byte in raw:
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonTextError(f"The JSON text is nested too deeply; at most {MAX_DEPTH} levels are accepted")
        elif byte in b"]}":
            depth -= 1


def _parser_words(raw: bytes, fallback: str) -> str:
    """What is wrong with a text, in the words of Jackson, which AWS shows; without the place, which it leaves out."""
    try:
        source.explain(raw, fallback)
    except DefinitionError as error:
        return error.diagnostics[0].message.split("\n at [", 1)[0]


def json_type_name(value: Json) -> str:
    """What JSON calls the type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case dict():
            return "object"
        case _:
            return "array"
