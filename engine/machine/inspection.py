"""What a test of one state sees of its data flow: the value at each arrow of the specification's picture.

An execution carries no inspection; the machine notes values only where one was given to it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from stepwell.engine.asl.states import BaseState, PassState, QueryLanguage, StateType
from stepwell.engine.jsontypes import Document


class Arrow(StrEnum):
    """The arrows, by the names TestState has for them, in the order of the flow."""

    INPUT = "input"
    AFTER_INPUT_PATH = "afterInputPath"
    AFTER_PARAMETERS = "afterParameters"
    AFTER_ARGUMENTS = "afterArguments"
    AFTER_ITEMS_PATH = "afterItemsPath"
    AFTER_ITEMS_POINTER = "afterItemsPointer"
    AFTER_ITEM_SELECTOR = "afterItemSelector"
    AFTER_ITEM_BATCHER = "afterItemBatcher"
    RESULT = "result"
    AFTER_RESULT_SELECTOR = "afterResultSelector"
    AFTER_RESULT_PATH = "afterResultPath"


Inspection = dict[Arrow, Document]
"""What was noted so far."""

_ENTRY: Final = frozenset({Arrow.INPUT, Arrow.AFTER_INPUT_PATH})
_EXIT: Final = frozenset({Arrow.AFTER_RESULT_SELECTOR, Arrow.AFTER_RESULT_PATH})
_ITEMS: Final = frozenset({Arrow.AFTER_ITEMS_POINTER, Arrow.AFTER_ITEM_SELECTOR, Arrow.AFTER_ITEM_BATCHER})

_JSONPATH_ARROWS: Final[dict[StateType, frozenset[Arrow]]] = {
    StateType.PASS: _ENTRY | {Arrow.AFTER_PARAMETERS} | _EXIT,
    StateType.TASK: _ENTRY | {Arrow.AFTER_PARAMETERS, Arrow.RESULT} | _EXIT,
    StateType.CHOICE: _ENTRY,
    StateType.WAIT: _ENTRY,
    StateType.SUCCEED: _ENTRY,
    StateType.FAIL: _ENTRY,
    StateType.PARALLEL: _EXIT | {Arrow.INPUT},
    StateType.MAP: _ENTRY | {Arrow.AFTER_ITEMS_PATH} | _ITEMS | _EXIT,
}
_FIXED_RESULT: Final = _EXIT | {Arrow.INPUT, Arrow.RESULT}
_JSONATA_ARROWS: Final[dict[StateType, frozenset[Arrow]]] = {
    StateType.TASK: frozenset({Arrow.INPUT, Arrow.AFTER_ARGUMENTS, Arrow.RESULT}),
    StateType.MAP: _ITEMS | {Arrow.INPUT},
}


def arrows_shown(state: BaseState) -> frozenset[Arrow]:
    """Which arrows TestState shows of a state, as recorded on AWS: fewer than there are."""
    if state.query_language is QueryLanguage.JSONATA:
        return _JSONATA_ARROWS.get(state.type, frozenset({Arrow.INPUT}))
    if isinstance(state, PassState) and state.has_result:
        return _FIXED_RESULT
    return _JSONPATH_ARROWS[state.type]
