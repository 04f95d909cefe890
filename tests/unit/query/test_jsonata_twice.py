"""Two JSONata libraries agree on what people write: the one Stepwell uses is young, and could be replaced by the other."""

from __future__ import annotations

import json

import jsonata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query.jsonata import FULL, Evaluation, carry_out
from stepwell.engine.query.values import json_equal

ORDERS: Json = {
    "customer": {"name": "Ada", "tags": ["new", "vip"]},
    "items": [
        {"sku": "a", "price": 10, "count": 2},
        {"sku": "b", "price": 2.5, "count": 4},
        {"sku": "a", "price": 12, "count": 1},
    ],
    "note": "one, two",
}
EXPRESSIONS = (
    "customer.name",
    "items.price",
    "items[sku = 'a'].price",
    "items[-1].sku",
    "$sum(items.(price * count))",
    "items^(>price).sku",
    "items{sku: $sum(count)}",
    "$map(items, function($v, $i) {{'n': $i, 'total': $v.price * $v.count}})",
    "$filter(items, function($v) {$v.count > 1}).sku",
    "$reduce(items.count, function($a, $b) {$a + $b})",
    "$distinct(items.sku)",
    "$join($map(customer.tags, $uppercase), '-')",
    "$split(note, ', ')",
    "$replace(note, /t(w)o/, '$1')",
    "$contains(note, /TWO/i)",
    "($total := $sum(items.count); $total > 6 ? 'many' : 'few')",
    "$merge([{'a': 1}, {'b': 2}])",
    "$exists(missing) ? 1 : null",
    "customer ~> |$|{'name': 'Eve'}, 'tags'|",
    "$string(items[0])",
    "[1..5][$ % 2 = 1]",
    "$formatNumber(1234.5, '#,##0.00')",
    "$lookup(customer, 'name') & '!'",
    "$sort(items.price)",
    "missing",
)
NUMBERS = st.integers(-1000, 1000)
ROWS = st.lists(st.fixed_dictionaries({"k": st.sampled_from(("x", "y", "z")), "n": NUMBERS}), max_size=6)
OVER_ROWS = (
    "$sum(rows.n)",
    "rows[n > 0].k",
    "rows{k: $count(n)}",
    "$sort(rows.n)",
    "$count(rows)",
    "rows.(n * 2 - 1)",
    "$max(rows.n)",
)


def first(source: str, document: Json) -> Json:
    outcome = carry_out(Evaluation(source, write_text(document)), FULL)
    assert outcome.code is None
    return None if outcome.text is None else json.loads(outcome.text)


def second(source: str, document: Json) -> Json:
    found = jsonata.Jsonata(source).evaluate(json.loads(write_text(document)))
    plain: Json = json.loads(json.dumps(found))
    return plain


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_they_agree_on_what_people_write(source: str) -> None:
    assert json_equal(first(source, ORDERS), second(source, ORDERS))


@given(st.sampled_from(OVER_ROWS), ROWS)
def test_they_agree_on_any_rows(source: str, rows: Json) -> None:
    document: Json = {"rows": rows}
    assert json_equal(first(source, document), second(source, document))
