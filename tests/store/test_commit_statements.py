"""The variants of the commit statement: each is complete SQL whose parameters are those that are sent."""

from __future__ import annotations

import re

import asyncpg
import pytest

from stepwell.engine.store.commit_statements import GROUPS, SCALARS, VARIANTS, CommitStatement, statement_for
from tests.conftest import ROOT


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{len(variant.groups)}_groups")
async def test_a_variant_takes_the_parameters_it_names(database: str, variant: CommitStatement) -> None:
    wanted: list[str] = []
    for name in variant.names:
        wanted += [SCALARS[name]] if name in SCALARS else [f"{type}[]" for type in GROUPS[name]]
    assert re.findall(r"\$(\d+)::", variant.text)[-1] == str(len(wanted))
    connection = await asyncpg.connect(database)
    try:
        statement = await connection.prepare(variant.text)
        types = [parameter.name for parameter in statement.get_parameters()]
        empty: list[list[object] | None] = [[] if type.endswith("[]") else None for type in wanted]
        assert await statement.fetch(*empty) == []
    finally:
        await connection.close()
    short = {"smallint": "int2", "int": "int4", "bigint": "int8"}
    assert types == [re.sub(r"\w+", lambda name: short.get(name[0], name[0]), type) for type in wanted]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{len(variant.groups)}_groups")
def test_both_fences_are_in_every_variant(variant: CommitStatement) -> None:
    assert variant.text.count("FOR SHARE") == 1
    written = [name for name in ("begun", "stepped") if f"{name} AS (" in variant.text]
    assert variant.text.count("JOIN fence f") == len(written) >= 1
    if "stepped" in variant.groups:
        assert "e.rev = u.rev AND NOT EXISTS (SELECT FROM void" in " ".join(variant.text.split())


def test_every_group_alone_and_all_together_have_a_variant() -> None:
    for name in GROUPS:
        assert name in statement_for({name}).groups
    assert statement_for({"begun", "chunks"}) is VARIANTS[0]
    assert statement_for({"stepped", "chunks", "closing", "tasks_closed"}) is VARIANTS[1]
    assert statement_for(set(GROUPS)) is VARIANTS[-1]


def test_no_number_of_a_closed_set_stands_in_a_statement() -> None:
    """They are named, and there is one list of them."""
    for path in sorted((ROOT / "engine/store/queries").glob("*.sql")):
        found = re.findall(r"\b(?:status|kind) *(?:=|<>|<|>|<=|>=|IN \(|NOT IN \() *\d+", path.read_text("utf-8"))
        assert found == [], path.name
