"""The functions that AWS adds to JSONata: $partition, $range, $hash, $random, $uuid and $parse.

AWS guide, "Transforming data with JSONata in Step Functions". They are called by the JSONata library with its own values; what
they give for a seed is always the same. It must not know the library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read, write
from stepwell.engine.query.values import is_integer, is_number

Function: TypeAlias = Callable[..., Json]

_ALGORITHMS: Final = {
    "MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512",
}  # fmt: skip


class FunctionError(Exception):
    """A function refuses its arguments; `code` is JSONata's for the kind of error. `limit`: it would give too much."""

    def __init__(self, code: str, message: str, *, limit: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.limit = limit


def _mismatch(function: str, argument: int) -> FunctionError:
    return FunctionError("T0410", f'Argument {argument} of function "{function}" does not match function signature')


def _integer(value: Json, function: str, argument: int) -> int:
    if not is_integer(value):
        raise _mismatch(function, argument)
    return int(value)


def _partition(array: Json = None, size: Json = None, *rest: Json) -> Json:
    if array is None:
        return None
    items = array if isinstance(array, list | tuple) else [array]
    step = _integer(size, "partition", 2)
    if rest:
        raise _mismatch("partition", 3)
    if step < 1:
        raise FunctionError("D3137", "The second argument of $partition must be at least 1")
    return [list(items[at : at + step]) for at in range(0, len(items), step)]


def _ranges(most: int) -> Function:
    return lambda *arguments: _range(most, *arguments)


def _range(most: int, first: Json = None, last: Json = None, step: Json = None, *rest: Json) -> Json:
    start, end, by = _integer(first, "range", 1), _integer(last, "range", 2), _integer(step, "range", 3)
    if rest:
        raise _mismatch("range", 4)
    if by == 0:
        raise FunctionError("D3137", "The third argument of $range cannot be 0")
    numbers = range(start, end + (1 if by > 0 else -1), by)
    # Counted by hand: len() of a range refuses what does not fit a machine word.
    if numbers and abs(numbers[-1] - start) // abs(by) >= most:
        raise FunctionError("D2014", f"$range gives more than {most} numbers", limit=True)
    # A sequence, which JSONata reduces: one number stands for itself.
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _hash(data: Json = None, algorithm: Json = "SHA-256", *rest: Json) -> Json:
    if data is None:
        return None
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise FunctionError("D3137", f"The second argument of $hash must be one of {', '.join(_ALGORITHMS)}")
    if rest:
        raise _mismatch("hash", 3)
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else write(data)
    return hashlib.new(_ALGORITHMS[algorithm], raw, usedforsecurity=False).hexdigest()


def _parsed(text: Json = None, *rest: Json) -> Json:
    if text is None:
        return None
    if not isinstance(text, str) or rest:
        raise _mismatch("parse", 1 if not rest else 2)
    try:
        # In an object, because the library takes None for undefined.
        return {"v": read(text)}
    except JsonTextError as error:
        raise FunctionError("D3137", f"$parse: {error}") from None


def _random(entropy: Entropy) -> Function:
    def random(seed: Json = None, *rest: Json) -> Json:
        if rest:
            raise _mismatch("random", 2)
        if seed is None:
            return entropy.fraction()
        if not is_number(seed):
            raise _mismatch("random", 1)
        return Entropy(int.from_bytes(hashlib.blake2b(repr(float(seed)).encode(), digest_size=16).digest())).fraction()

    return random


def _uuid(entropy: Entropy) -> Function:
    def uuid(*rest: Json) -> Json:
        if rest:
            raise _mismatch("uuid", 1)
        return str(entropy.uuid4())

    return uuid


_PLAIN: Final[Mapping[str, Function]] = {"partition": _partition, "hash": _hash, "parse": _parsed}
_CHANCE: Final[Mapping[str, Callable[[Entropy], Function]]] = {"random": _random, "uuid": _uuid}

NAMES: Final = tuple(sorted((*_PLAIN, *_CHANCE, "range")))
"""The functions by name, without the dollar."""

_BOUND: Final = {"parse": "parsed"}
PRELUDE: Final = {
    "parse": '$parse := function($text) {$lookup($parsed($text), "v")}',
    "eval": "$eval := nothing",
}
"""What must be said before an expression that calls these. AWS has no $eval."""

CHANCE: Final = frozenset({*_CHANCE, "shuffle"})
"""Functions whose results differ from call to call; `shuffle` is the library's own."""


def functions_for(names: Sequence[str], seed: int, most_items: int) -> dict[str, Function]:
    """The functions, ready to be called in one evaluation with this seed; `most_items` may an array have that $range gives."""
    entropy = Entropy(seed)
    made = {"range": _ranges(most_items), **_PLAIN}
    return {_BOUND.get(name, name): made[name] if name in made else _CHANCE[name](entropy) for name in names}


__all__ = ["CHANCE", "NAMES", "PRELUDE", "Function", "FunctionError", "functions_for"]
