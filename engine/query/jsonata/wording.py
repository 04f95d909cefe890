"""Codes and texts of JSONata errors, as the reference implementation has them, where the library has others.

What a cause says is read by people and matched by programs.
"""

from __future__ import annotations

import re
from typing import Final

TIMED_OUT: Final = "D1012"
_STRAYED: Final = "U1001"
_CODES: Final = {"D1011": _STRAYED, TIMED_OUT: _STRAYED}
"""The library's codes for calls too deep and time run out. The reference has one for both, which ends what goes astray."""
_OWN_WORDS: Final = frozenset({"D3137", "D3141"})
"""Errors whose text is the expression's own: of `$error` and `$assert`."""
_TIGHTER: Final = ("*", "/", "%")
_WHOLE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.])-?\d+\.0(?![\d.])')


def shown_code(code: str | None) -> str:
    """The code as causes show it."""
    return _CODES.get(code or "", code or "")


def reworded(code: str, message: str, before: str, after: str) -> tuple[str, str]:
    """The code and text of an error, of an operation that stands between two parts of the source."""
    if code == "D1001" and _is_written(before.rstrip(), after.lstrip()):
        return "D3001", "Attempting to invoke string function on Infinity or NaN"
    if code in _OWN_WORDS:
        return code, message
    if code == "D3061":
        message = message.replace("exponent=null", "exponent=undefined")
    return code, _WHOLE.sub(lambda match: match[0] if match[0][0] == '"' else match[0][:-2], message)


def _is_written(before: str, after: str) -> bool:
    """Whether a value between these is turned into text at once. There is no number out of range then, but a text that is."""
    if after[:1] in _TIGHTER or before[-1:] in (*_TIGHTER, "+", "-"):
        return False  # another operation takes it first
    return (before.endswith("$string(") and after[:1] in (")", ",")) or before.endswith("&") or after.startswith("&")
