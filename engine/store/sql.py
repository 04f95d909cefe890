"""The named SQL statements of `queries/`: loaded once, at import."""

from __future__ import annotations

from importlib.resources import files
from typing import Final


def _load() -> dict[str, str]:
    folder = files("stepwell.engine.store") / "queries"
    return {
        item.name.removesuffix(".sql"): item.read_text("utf-8")
        for item in folder.iterdir()
        if item.name.endswith(".sql")
    }


QUERIES: Final = _load()
"""Statement text by file name."""
