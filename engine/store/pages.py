"""Positions in listings: the opaque text that says where the next page begins.

A position names the last row shown, so that a page costs the same wherever it is and rows that come or go in between shift
nothing. It is bound to its listing and filter by a digest; it is no authority.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from stepwell.engine.errors import InvalidPageTokenError
from stepwell.engine.ports import Page

T = TypeVar("T")
R = TypeVar("R")

Part = int | str
_DIGEST_BYTES: Final = 6
_decoder: Final = msgspec.json.Decoder(list[Part])


def _digest(scope: str, body: bytes) -> bytes:
    return hashlib.blake2b(
        body, digest_size=_DIGEST_BYTES, key=hashlib.blake2b(scope.encode("utf-8", "replace")).digest()
    ).digest()


def make_position(scope: str, *parts: Part) -> str:
    """The position after the row with these sort keys, in the listing `scope` (its name and filter)."""
    body = msgspec.json.encode(parts)
    return base64.urlsafe_b64encode(_digest(scope, body) + body).decode()


def read_position(scope: str, position: str, shape: tuple[type, ...]) -> list[Part]:
    """The sort keys of a position. Raises `InvalidPageTokenError` for one that was not made for `scope`."""
    try:
        raw = base64.b64decode(position.encode("ascii"), altchars=b"-_", validate=True)
        digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        parts = _decoder.decode(body) if digest == _digest(scope, body) else []
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        parts = []
    if tuple(type(part) for part in parts) != shape:
        raise InvalidPageTokenError("The page token is not valid for this listing. Start again without one.")
    return parts


def page_of(rows: Sequence[R], limit: int, make: Callable[[R], T], position: Callable[[R], str]) -> Page[T]:
    """A page made of up to `limit + 1` rows: the one too many only tells that there is a next page."""
    shown = rows[:limit]
    return Page([make(row) for row in shown], position(shown[-1]) if len(rows) > limit and shown else None)
