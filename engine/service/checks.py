"""Rules that several use-cases share: ARNs and their kinds, names, and JSON text that comes from outside."""

from __future__ import annotations

import re

from stepwell.engine import limits
from stepwell.engine.asl import source
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.errors import JsonTextError
from stepwell.engine.ids import StatesArn, parse_arn, valid_name
from stepwell.engine.jsontypes import MAX_DEPTH, Document, place_of, too_deep_at
from stepwell.engine.service import refusals
from stepwell.engine.service.refusals import ValidationReason

_CLIENT_TOKEN = re.compile(r"[!-~]{1,64}")

MACHINE = "stateMachine"
EXECUTION = "execution"
EXPRESS = "express"
ACTIVITY = "activity"


def any_arn(text: str) -> StatesArn:
    """The ARN of a resource of Step Functions."""
    if not text.startswith("arn:"):
        raise refusals.invalid_arn(f"Invalid ARN prefix: {text}")
    arn = parse_arn(text)
    if arn is None or "\x00" in text:
        raise refusals.invalid_arn(f"Malformed ARN: {text}")
    return arn


def arn_of(text: str, kind: str) -> StatesArn:
    """The ARN, which must be one of this kind."""
    arn = any_arn(text)
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


def client_token(token: str | None) -> None:
    """Refuse a client token that is not of the API's form: 1 to 64 visible ASCII characters."""
    if token is not None and not _CLIENT_TOKEN.fullmatch(token):
        raise refusals.invalid("A client token has 1 to 64 visible ASCII characters", pointer="/clientToken")


def error_and_cause(error: str | None, cause: str | None) -> None:
    """Refuse an error name or cause that is longer than the API takes."""
    for member, text, most in (("error", error, limits.MAX_ERROR_LENGTH), ("cause", cause, limits.MAX_CAUSE_LENGTH)):
        if text is not None and len(text) > most:
            rule = f"have length less than or equal to {most}"
            raise refusals.constraints_broken(
                [refusals.constraint(member, f"'{text[:64]}...'", rule)], pointer=f"/{member}"
            )


def size_fault(raw: bytes, member: str) -> str | None:
    """The breach of the payload limit, in the words of a constraint; None if there is none."""
    if len(raw) <= limits.MAX_PAYLOAD_BYTES:
        return None
    shown = raw[:64].decode("utf-8", "replace")
    rule = f"have length less than or equal to {limits.MAX_PAYLOAD_BYTES}"
    return refusals.constraint(member, f"'{shown}...'", rule)


def document_of(raw: bytes) -> Document:
    """The document a text holds. Raises `JsonTextError` with a message in the words of AWS's parser, and the place."""
    deep = too_deep_at(raw)
    if deep is not None:
        message = f"The JSON text is nested too deeply; at most {MAX_DEPTH} levels are accepted"
        raise JsonTextError(message, *place_of(raw, deep))
    try:
        return Document.parse(raw)
    except JsonTextError as error:
        raise JsonTextError(_parser_words(raw, str(error)), error.line, error.column) from None


def _parser_words(raw: bytes, fallback: str) -> str:
    """What is wrong with a text, in the words of Jackson, which AWS shows; without the place, which it leaves out."""
    try:
        source.explain(raw, fallback)
    except DefinitionError as error:
        return error.diagnostics[0].message.split("\n at [", 1)[0]
