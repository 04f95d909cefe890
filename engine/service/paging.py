"""Pages of a listing: how long one may be, and the opaque token that leads to the next.

A token is bound to the arguments it was given for and expires. It is no authority: it holds a position and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from stepwell.engine import limits
from stepwell.engine.service import refusals

_VERSION = b"1"
_EXPIRY_MS = limits.PAGE_TOKEN_HOURS * 3_600_000


def page_size(asked: int | None) -> int:
    """How many items a page has at most: 100 where nothing or 0 was asked for."""
    return min(asked, limits.MAX_PAGE_SIZE) if asked else limits.DEFAULT_PAGE_SIZE


def _digest(scope: str) -> bytes:
    return hashlib.blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=6).digest()


def make_token(scope: str, position: str | None, now: int) -> str | None:
    """The token of a position in the listing `scope` (its name and arguments); None where there is no next page."""
    if position is None:
        return None
    expires = (now + _EXPIRY_MS).to_bytes(8, "big")
    return base64.urlsafe_b64encode(_VERSION + _digest(scope) + expires + position.encode()).decode()


def read_token(scope: str, token: str | None, now: int) -> str | None:
    """The position a token stands for. Raises InvalidToken for one of another listing, an expired or a broken one."""
    if token is None:
        return None
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        position = raw[15:].decode()
    except (binascii.Error, ValueError):
        raise refusals.invalid_token() from None
    if len(raw) < 16 or raw[:1] != _VERSION or raw[1:7] != _digest(scope):
        raise refusals.invalid_token()
    if int.from_bytes(raw[7:15], "big") < now:
        raise refusals.invalid_token()
    return position
