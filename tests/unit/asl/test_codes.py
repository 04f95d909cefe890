"""The list of codes is complete, and the documentation has it."""

from __future__ import annotations

import re
from pathlib import Path

from stepwell.engine.asl.codes import EXPLANATIONS, WARNINGS
from stepwell.engine.asl.diagnostics import DiagnosticCode

PAGE = Path(__file__).parents[3] / "docs" / "validator.md"


def rows(section: str) -> dict[str, str]:
    text = PAGE.read_text().partition(f"<!-- {section} -->")[2].partition("<!-- end -->")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE))


def test_every_code_is_explained() -> None:
    assert set(EXPLANATIONS) == set(DiagnosticCode)


def test_the_documentation_has_the_same_list() -> None:
    assert rows("warnings") == {code.value: EXPLANATIONS[code] for code in WARNINGS}
    assert rows("errors") == {code.value: text for code, text in EXPLANATIONS.items() if code not in WARNINGS}


def test_codes_of_our_own_are_told_from_those_of_aws() -> None:
    for code in DiagnosticCode:
        assert re.fullmatch(r"[A-Z]+(?:_[A-Z]+)+|[a-z]+(?:-[a-z]+)*", code.value)
