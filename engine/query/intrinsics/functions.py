"""The intrinsic functions of the States Language, one table. They get values and entropy, and know no paths.

Results and roundings are as recorded on AWS; limits are those of AWS's guide ("Intrinsic functions").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read, write_text
from stepwell.engine.limits import MAX_EXPRESSION_BYTES
from stepwell.engine.query.effort import LONG_TEXT, spend, spend_on, spend_on_text
from stepwell.engine.query.intrinsics.checks import Refusal, array, integer, mapping, text
from stepwell.engine.query.values import frozen, json_equal, larger_than

Implementation: TypeAlias = Callable[[Sequence[Json], Entropy], Json]

MAX_TEXT: Final = 10_000
"""Characters that Base64Encode, Base64Decode and Hash take."""
MAX_RANGE: Final = 1_000
"""Elements that ArrayRange makes."""

# Characters that are looked through in the time of one step.
_WRITTEN: Final = 256
_READ: Final = 24
_HASHED: Final = 256
_SPLIT: Final = 128
_TRANSLATED: Final = 16
_ALGORITHMS: Final = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}


@dataclass(frozen=True, slots=True)
class IntrinsicFunction:
    """`least` and `most` count the arguments; no `most` means any number. `draws` tells that it uses entropy, `light` that it takes no
    effort, whatever it is given."""

    name: str
    least: int
    most: int | None
    call: Implementation
    draws: bool = False
    light: bool = False


def fill(pieces: Sequence[str], values: Sequence[Json]) -> str:
    """States.Format: the values between the pieces."""
    if len(values) != len(pieces) - 1:
        raise Refusal(
            f"The number of {{}} in the format string ({len(pieces) - 1}) differs from the number of values "
            f"({len(values)})."
        )
    parts = [pieces[0]]
    length = 0
    for value, piece in zip(values, pieces[1:], strict=True):
        shown = value if isinstance(value, str) else write_text(value)
        length += len(shown)
        if length > MAX_EXPRESSION_BYTES:
            raise _too_large()
        parts += (shown, piece)
    if length > LONG_TEXT:
        spend(length // _WRITTEN)
    return "".join(parts)


def _too_large() -> Refusal:
    return Refusal(f"The result would have more than {MAX_EXPRESSION_BYTES} bytes.")


def _format(arguments: Sequence[Json], entropy: Entropy) -> Json:
    template = text(arguments[0], "The format string")
    return fill(_pieces(template), arguments[1:])


def _pieces(template: str) -> list[str]:
    r"""A format string that is data: cut at each `{}`, where `\{` and `\}` are braces that stand for themselves."""
    spend_on_text(template, _TRANSLATED)
    hidden = template.replace("\\{", "\0").replace("\\}", "\1")
    return [piece.replace("\0", "{").replace("\1", "}") for piece in hidden.split("{}")]


def _string_to_json(arguments: Sequence[Json], entropy: Entropy) -> Json:
    source = text(arguments[0], "The argument")
    spend_on_text(source, _READ)
    if not source.strip():
        return None
    try:
        return read(source)
    except JsonTextError as error:
        raise Refusal(f"The string is not JSON. {error}") from None


def _json_to_string(arguments: Sequence[Json], entropy: Entropy) -> Json:
    written = write_text(arguments[0])
    spend_on_text(written, _WRITTEN)
    if len(written) > MAX_EXPRESSION_BYTES:
        raise _too_large()
    return written


def _array(arguments: Sequence[Json], entropy: Entropy) -> Json:
    items = list(arguments)
    if larger_than(items, MAX_EXPRESSION_BYTES, spend):
        raise _too_large()
    return items


def _array_partition(arguments: Sequence[Json], entropy: Entropy) -> Json:
    items, size = array(arguments[0], "The first argument"), integer(arguments[1], "The chunk size")
    if size < 1:
        raise Refusal(f"The chunk size must be a positive integer, not {size}.")
    spend((len(items) >> 5) + len(items) // size)
    return [items[start : start + size] for start in range(0, len(items), size)]


def _array_contains(arguments: Sequence[Json], entropy: Entropy) -> Json:
    items, wanted = array(arguments[0], "The first argument"), arguments[1]
    if isinstance(wanted, dict | list):
        spend_on(items)
    spend(len(items) >> 1)
    return any(json_equal(item, wanted) for item in items)


def _array_range(arguments: Sequence[Json], entropy: Entropy) -> Json:
    first, last = integer(arguments[0], "The first value"), integer(arguments[1], "The last value")
    step = integer(arguments[2], "The step")
    if step == 0:
        raise Refusal("The step must not be zero.")
    values = range(first, last + (1 if step > 0 else -1), step)
    # Counted by hand: len() of a range refuses what does not fit a machine word.
    if values and abs(values[-1] - first) // abs(step) >= MAX_RANGE:
        raise Refusal(f"The range may have at most {MAX_RANGE} elements.")
    spend(len(values) >> 4)
    return list(values)


def _array_get_item(arguments: Sequence[Json], entropy: Entropy) -> Json:
    items, index = array(arguments[0], "The first argument"), integer(arguments[1], "The index")
    if not 0 <= index < len(items):
        raise Refusal(f"The index {index} is outside the array of {len(items)} elements.")
    return items[index]


def _array_length(arguments: Sequence[Json], entropy: Entropy) -> Json:
    return len(array(arguments[0], "The argument"))


def _array_unique(arguments: Sequence[Json], entropy: Entropy) -> Json:
    items = array(arguments[0], "The argument")
    spend(len(items))
    spend_on(items)
    firsts: dict[object, Json] = {}
    for item in items:
        firsts.setdefault(frozen(item), item)
    return list(firsts.values())


def _base64_encode(arguments: Sequence[Json], entropy: Entropy) -> Json:
    source = text(arguments[0], "The argument", MAX_TEXT)
    spend_on_text(source, _HASHED)
    return base64.b64encode(_utf8(source)).decode()


def _base64_decode(arguments: Sequence[Json], entropy: Entropy) -> Json:
    source = text(arguments[0], "The argument", MAX_TEXT)
    spend_on_text(source, _HASHED)
    try:
        return base64.b64decode(source, validate=True).decode()
    except (binascii.Error, ValueError):
        raise Refusal("The argument is not the Base64 encoding of a UTF-8 text.") from None


def _hash(arguments: Sequence[Json], entropy: Entropy) -> Json:
    data = arguments[0] if isinstance(arguments[0], str) else write_text(arguments[0])
    algorithm = _ALGORITHMS.get(text(arguments[1], "The algorithm"))
    if algorithm is None:
        raise Refusal(f"The algorithm must be one of {', '.join(_ALGORITHMS)}.")
    spend_on_text(text(data, "The data", MAX_TEXT), _HASHED)
    return hashlib.new(algorithm, _utf8(data), usedforsecurity=False).hexdigest()


def _json_merge(arguments: Sequence[Json], entropy: Entropy) -> Json:
    if arguments[2] is not False:
        raise Refusal("The third argument must be false: only shallow merging is supported.")
    first, second = mapping(arguments[0], "The first argument"), mapping(arguments[1], "The second argument")
    spend((len(first) + len(second)) >> 4)
    return {**first, **second}


def _math_random(arguments: Sequence[Json], entropy: Entropy) -> Json:
    start, end = integer(arguments[0], "The start"), integer(arguments[1], "The end")
    if start >= end:
        raise Refusal(f"The start ({start}) must be less than the end ({end}).")
    source = Entropy(integer(arguments[2], "The seed")) if len(arguments) > 2 else entropy
    return start + int.from_bytes(source.bytes16(), "big") % (end - start)


def _math_add(arguments: Sequence[Json], entropy: Entropy) -> Json:
    return integer(arguments[0], "The first argument") + integer(arguments[1], "The second argument")


def _string_split(arguments: Sequence[Json], entropy: Entropy) -> Json:
    source, delimiters = text(arguments[0], "The first argument"), text(arguments[1], "The delimiter")
    # Each character of the delimiter delimits, and nothing between two of them is no part: both as recorded.
    if len(delimiters) > 1:
        spend_on_text(source, _TRANSLATED)
        spend_on_text(delimiters, 1)
        source = source.translate(dict.fromkeys(map(ord, delimiters), delimiters[0]))
    parts = source.split(delimiters[0]) if delimiters else [source]
    spend(len(parts) >> 2)
    spend_on_text(source, _SPLIT)
    return [part for part in parts if part]


def _uuid(arguments: Sequence[Json], entropy: Entropy) -> Json:
    return str(entropy.uuid4())


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Refusal("The text has characters that cannot be written as UTF-8.") from None


_TABLE: Final = (
    IntrinsicFunction("States.Array", 0, None, _array),
    IntrinsicFunction("States.ArrayContains", 2, 2, _array_contains),
    IntrinsicFunction("States.ArrayGetItem", 2, 2, _array_get_item, light=True),
    IntrinsicFunction("States.ArrayLength", 1, 1, _array_length, light=True),
    IntrinsicFunction("States.ArrayPartition", 2, 2, _array_partition),
    IntrinsicFunction("States.ArrayRange", 3, 3, _array_range),
    IntrinsicFunction("States.ArrayUnique", 1, 1, _array_unique),
    IntrinsicFunction("States.Base64Decode", 1, 1, _base64_decode),
    IntrinsicFunction("States.Base64Encode", 1, 1, _base64_encode),
    IntrinsicFunction("States.Format", 1, None, _format),
    IntrinsicFunction("States.Hash", 2, 2, _hash),
    IntrinsicFunction("States.JsonMerge", 3, 3, _json_merge),
    IntrinsicFunction("States.JsonToString", 1, 1, _json_to_string),
    IntrinsicFunction("States.MathAdd", 2, 2, _math_add, light=True),
    IntrinsicFunction("States.MathRandom", 2, 3, _math_random, draws=True, light=True),
    IntrinsicFunction("States.StringSplit", 2, 2, _string_split),
    IntrinsicFunction("States.StringToJson", 1, 1, _string_to_json),
    IntrinsicFunction("States.UUID", 0, 0, _uuid, draws=True, light=True),
)

FUNCTIONS: Final[dict[str, IntrinsicFunction]] = {function.name: function for function in _TABLE}
"""Every intrinsic function, by name."""
