"""The items of one Map Run, read page by page in the background and made children of: ahead of what is being committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from stepwell.engine.asl.states import MapState
from stepwell.engine.clock import Entropy
from stepwell.engine.errors import ExpressionsUnavailableError, JsonTextError
from stepwell.engine.machine.map_run import Child, Maker, Plan, SourceItem, inline_items
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.query import effort
from stepwell.engine.query.jsonata import Outcomes, OverBudgetError
from stepwell.engine.runtime.map_run_tools import PAGE_BYTES, PAGE_ITEMS, TURN_SECONDS, Mailbox, Tools
from stepwell.engine.states_errors import ErrorName, StatesError

log = logging.getLogger(__name__)

LEAST_PAGE_ITEMS: Final = 20
UNAVAILABLE_SECONDS: Final = 1.0


class Pages:
    """The pages of a Map Run, from where its `plan` stands. One is read at a time; the mailbox is woken when it is there."""

    def __init__(self, tools: Tools, box: Mailbox, plan: Plan, state: MapState | None) -> None:
        """`state`: the Map state; None where it is not known, and nothing is to be read."""
        self._tools = tools
        self._box = box
        self._plan = plan
        self._state = state
        self._page: asyncio.Task[tuple[list[Child], bool]] | None = None
        self._items: AsyncIterator[SourceItem] | None = None
        self._maker: Maker | None = None
        self._read = plan.progress.source

    @property
    def under_way(self) -> bool:
        """Whether a page is being read, or is there and has not been taken."""
        return self._page is not None

    @property
    def there(self) -> bool:
        """Whether a page can be taken."""
        return self._page is not None and self._page.done()

    def begin(self) -> None:
        """Begin to read the next page."""
        self._page = asyncio.create_task(self._next(), name="map run page")
        self._page.add_done_callback(lambda _: self._box.wake.set())

    def give_up(self) -> None:
        """Nobody wants the page any more that is being read, and storage may not answer for long."""
        if self._page is not None:
            self._page.cancel()

    def again(self) -> None:
        """What comes next is read from where the plan stands now."""
        self._items = None
        self._maker, self._read = None, self._plan.progress.source

    async def close(self) -> None:
        """Stop reading."""
        if self._page is not None:
            self._page.cancel()
            await asyncio.gather(self._page, return_exceptions=True)
        if self._items is not None:
            with suppress(Exception):
                await self._items.aclose()  # type: ignore[attr-defined]

    def take(self) -> tuple[list[Child], bool] | None:
        """The page that has been read, as children, and whether it was the last one; None if it was given up. Raises `StatesError`."""
        page, self._page = self._page, None
        assert page is not None
        if page.cancelled():
            return None
        try:
            return page.result()
        except StatesError:
            raise
        except (JsonTextError, RecursionError) as error:
            raise StatesError(ErrorName.RUNTIME, str(error)) from error
        except Exception as error:  # whatever it is, this run must end rather than try it for ever
            log.exception("children cannot be made of items", extra={"map_run": self._box.id.hex()})
            cause = f"Children cannot be made of the items: {type(error).__name__}."
            raise StatesError(ErrorName.RUNTIME, cause) from error

    async def _next(self) -> tuple[list[Child], bool]:
        """Up to a page of children, and whether that was all."""
        spec = self._plan.spec
        reader = spec.reader
        most = reader.config.get("MaxItems", 0) if reader is not None else 0
        if most < 0:
            raise StatesError(ErrorName.ITEM_READER_FAILED, "field MaxItems must be positive")
        if self._items is None:
            cursor = self._plan.progress.cursor
            self._items = _inline(spec, int(cursor or 0)) if reader is None else self._tools.source.read(reader, cursor)
        if self._maker is None:
            self._maker = self._new_maker()
        children: list[Child] = []
        enough = min(max(2 * self._plan.limit, LEAST_PAGE_ITEMS), PAGE_ITEMS)
        taken = size = 0
        clock = self._tools.clock
        turn = clock.monotonic()
        while taken < enough and size < PAGE_BYTES:
            item = None if most and self._read >= most else await self._next_item(self._items)
            if item is None:
                return children + self._maker.rest(), True
            self._read += 1
            taken += 1
            made = await self._made(self._maker, item)
            size += sum(len(child.input) for child in made)
            children += made
            if clock.monotonic() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = clock.monotonic()
        return children, False

    def _new_maker(self) -> Maker:
        """What an item draws is made from the Map Run's key and the item's index: the same whenever the item is taken."""
        assert self._state is not None
        entropy = Entropy(int.from_bytes(self._box.id, "big"))
        return Maker(self._plan.spec, self._state, self._plan.progress, entropy, self._tools.clock.now_ms())

    async def _next_item(self, items: AsyncIterator[SourceItem]) -> SourceItem | None:
        try:
            return await anext(items, None)
        except (StatesError, JsonTextError):
            raise
        except Exception as error:
            log.exception("the items of a Map Run cannot be read", extra={"map_run": self._box.id.hex()})
            cause = f"The items cannot be read: {type(error).__name__}."
            raise StatesError(ErrorName.ITEM_READER_FAILED, cause) from error

    async def _made(self, maker: Maker, item: SourceItem) -> list[Child]:
        """The children that are complete with an item; an expression that needs too much here is evaluated elsewhere."""
        outcomes: Outcomes | None = None
        while True:
            try:
                children = maker.take(item)
            except OverBudgetError as error:
                if outcomes is None:
                    maker.heavy = outcomes = Outcomes()  # those of one item, so that they do not add up
                try:
                    outcomes.add(error.evaluation, await self._tools.evaluate(error.evaluation))
                except ExpressionsUnavailableError as unavailable:
                    reason = {"map_run": self._box.id.hex(), "reason": str(unavailable)}
                    log.warning("an expression waits to be evaluated", extra=reason)
                    await asyncio.sleep(UNAVAILABLE_SECONDS)
                continue
            finally:
                effort.end_states()
            if outcomes is not None:
                maker.heavy = None
            return children


async def _inline(spec: MapRunSpec, start: int) -> AsyncIterator[SourceItem]:
    for item in inline_items(spec, start):
        yield item
