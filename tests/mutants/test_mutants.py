"""Every seeded mistake is noticed by the tests named for it; and over the right code those tests pass in such a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import MUTANTS
from tests.mutants.harness import ROOT, Mutant, all_tests, copy_tree, is_noticed, run_tests


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_it_replaces_is_there_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    assert is_noticed(mutant, tmp_path), f"{mutant.tests} pass although {mutant.why}"


@pytest.mark.slow
def test_nothing_is_noticed_where_nothing_is_wrong(tmp_path: Path) -> None:
    place = copy_tree(tmp_path)
    code, said = run_tests(place, all_tests(MUTANTS))
    assert code == 0, said[-3000:]
