"""The function registry: what the function names in definitions stand for. It must not know HTTP nor how one is called."""

from __future__ import annotations

import re

from stepwell.engine.clock import Clock
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.ports import FunctionKind, FunctionRecord, FunctionStore, Page
from stepwell.engine.service import paging, refusals

_NAME = re.compile(r"[A-Za-z0-9_-]{1,140}(:[A-Za-z0-9_$-]{1,128})?")
_PYTHON = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*")
_CELERY = re.compile(r"[A-Za-z0-9_.:/-]{1,512}")
_HTTP = re.compile(r"https?://[^\s\x00-\x1f]{1,2048}")
_RULES = {
    FunctionKind.PYTHON: (_PYTHON, "a Python callable: 'module:callable'"),
    FunctionKind.CELERY: (_CELERY, "the name of a Celery task"),
    FunctionKind.HTTP: (_HTTP, "an http(s) URL"),
}


class Functions:
    """The use-cases of the function registry."""

    def __init__(self, store: FunctionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def put(
        self, name: str, kind: FunctionKind, target: str, options: Json = None
    ) -> tuple[FunctionRecord, bool]:
        """Register a function, or register it anew; whether it is new."""
        if not _NAME.fullmatch(name):
            raise refusals.invalid(
                f"'{name}' is no function name; use letters, digits, '-' and '_', and ':alias' if wanted",
                pointer="/name",
            )
        pattern, description = _RULES[kind]
        if not pattern.fullmatch(target):
            raise refusals.invalid(
                f"The target of a function of kind '{kind}' must be {description}", pointer="/target"
            )
        if options is not None and not isinstance(options, dict):
            raise refusals.invalid("The options of a function must be an object", pointer="/options")
        existing = await self._store.get(name)
        created_at = self._clock.now_ms() if existing is None else existing.created_at
        record = FunctionRecord(name, kind, target, created_at, write_text(options or {}))
        await self._store.put(record)
        return record, existing is None

    async def get(self, name: str) -> FunctionRecord:
        """The function of this name."""
        record = None if "\x00" in name else await self._store.get(name)
        if record is None:
            raise refusals.not_found("Function", name)
        return record

    async def list(self, max_results: int | None = None, token: str | None = None) -> Page[FunctionRecord]:
        """Functions; the page's `next` is a token."""
        now = self._clock.now_ms()
        page = await self._store.list(paging.page_size(max_results), paging.read_token("functions", token, now))
        return Page(page.items, paging.make_token("functions", page.next, now))

    async def delete(self, name: str) -> None:
        """Remove a function."""
        if "\x00" in name or not await self._store.delete(name):
            raise refusals.not_found("Function", name)
