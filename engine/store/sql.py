"""The named SQL statements of `queries/`: loaded once, at import, with the numbers of closed sets in place of their names."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

from stepwell.engine.store.codes import NUMBERS

_NUMBER: Final = re.compile(r"\{(\w+\.\w+)\}")
"""A member of a closed set, which stands in a statement by its name."""


def _load() -> dict[str, str]:
    folder = files("stepwell.engine.store") / "queries"
    return {
        item.name.removesuffix(".sql"): _NUMBER.sub(lambda found: str(NUMBERS[found[1]]), item.read_text("utf-8"))
        for item in folder.iterdir()
        if item.name.endswith(".sql")
    }


QUERIES: Final = _load()
"""Statement text by file name."""
