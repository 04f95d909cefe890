"""Names and ARNs of Express children: what they tell of the child, and of nothing else."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.ids import child_arn, express_child
from stepwell.engine.machine.map_run import child_name, child_of, express_child_name, express_child_number

RUN = "arn:aws:states:us-east-1:000000000000:mapRun:m/L:6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
keys = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, 2**31 - 1)


@given(keys, numbers)
def test_a_name_tells_its_number(key: bytes, number: int) -> None:
    name = express_child_name(key, number)
    assert UUID(name).version == 4 and str(UUID(name)) == name
    assert express_child_number(key, name) == number


@given(keys, keys, numbers)
def test_another_map_run_has_no_child_of_that_name(key: bytes, other: bytes, number: int) -> None:
    assert key == other or express_child_number(other, express_child_name(key, number)) is None


@pytest.mark.parametrize("name", ("", "x", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", child_name(bytes(16), 1)))
def test_what_is_no_name_of_a_child(name: str) -> None:
    assert express_child_number(bytes(16), name) is None
    assert express_child_number(bytes(16), express_child_name(bytes(16), 1).upper()) is None


def test_arns() -> None:
    name, arn = child_of(RUN, bytes(16), 3, express=True)
    assert arn == f"arn:aws:states:us-east-1:000000000000:express:m/L:6f9619ff-8b86-4d01-b42d-00cf4fc964ff:{name}"
    assert express_child(arn) == (RUN, name)
    name, arn = child_of(RUN, bytes(16), 3, express=False)
    assert arn == f"arn:aws:states:us-east-1:000000000000:execution:m/L:{name}" == child_arn(RUN, name)
    assert express_child(arn) is None
    assert express_child("arn:aws:states:us-east-1:000000000000:express:m:a:b") is None
    assert express_child("x") is None
