"""Where the random machines and their fates come from: a few kinds of draws, over Hypothesis (which shrinks what fails) or over
a seeded generator (which needs no Hypothesis around it)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Chance(Protocol):
    """Draws. What stands first is the simplest: a failing example is shrunk towards it."""

    def whole(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of them, each as likely as the others."""
        ...

    def often(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        ...

    def weighted(self, options: Mapping[T, int]) -> T:
        """One of them, in proportion to its weight."""
        ...


class _Draws:
    """Everything out of `whole`."""

    def whole(self, least: int, most: int) -> int:
        raise NotImplementedError

    def pick(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)] if len(options) > 1 else options[0]

    def often(self, percent: int) -> bool:
        return self.whole(0, 99) >= 100 - percent

    def weighted(self, options: Mapping[T, int]) -> T:
        at = self.whole(0, sum(options.values()) - 1)
        for option, weight in options.items():
            at -= weight
            if at < 0:
                return option
        raise AssertionError("the weights add up")


class Seeded(_Draws):
    """Draws from a seeded generator."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def whole(self, least: int, most: int) -> int:
        return self._rng.randint(least, most)


@lru_cache(maxsize=1024)
def _between(least: int, most: int) -> st.SearchStrategy[int]:
    # Without bounds of its own a strategy of integers prefers the ends of its range, which weights do not allow for.
    return st.sampled_from(range(least, most + 1))


class Drawn(_Draws):
    """Draws of Hypothesis."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def whole(self, least: int, most: int) -> int:
        value: int = self._draw(_between(least, most)) if most > least else least
        return value
