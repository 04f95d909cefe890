"""Which expressions are evaluated in the engine's own process, and that nothing there escapes the limits."""

from __future__ import annotations

import pytest

from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document
from stepwell.engine.query.jsonata import Evaluation, Outcome, compile_jsonata
from stepwell.engine.query.jsonata.quick import MOST_BYTES, NEVER, SMALL_BYTES, judge
from stepwell.engine.query.scope import StatesScope

HERE = [
    "$states.input.a.b",
    "$states.input.items[price > 3 and name in ['a', 'b']].name",
    "{'a': $x, 'b': [$y, $z], 'c': $sum($states.input.items.price)}",
    "$map($states.input.items, function($v, $i) {{'index': $i, 'value': $v * 2}})",
    "$filter($x, function($v) {$v > 1})",
    "$reduce($x, function($a, $b) {$a + $b})",
    "($f := function($n) {$n <= 1 ? 1 : $n * $f($n - 1)}; $f(5))",
    "[1..10]",
    "$range(1, $n, 1)",
    "[-5..5]",
    "[0..$count($x) - 1]",
    "$x / 2 / 3",
    "($a := $x / 2; $b := $a[0] / $y; $b)",
    "$x ~> $uppercase ~> $trim",
    "$states.input.`odd name`[0]",
    "$exists($x) ? $x : 'none'",
    "$x.{'a': a, 'b': b}^(a)",
    "orders{customer: $sum(total)}",
    "/* a comment */ $x",
    "$x ? 'function(' : \"$replace|\"",
]
SMALL = [
    "$replace($x, 'a', 'b')",
    "$distinct($x)",
    "$match($x, /a+/i)",
    "$split($x, /[\\/,]/)[0]",
    "$contains($x, /\\//)",
    "$join($x, ', ')",
    "$x.**.a",
    "$toMillis($x)",
]
ELSEWHERE = [
    "$x ~> |items|{'a': 1}|",
    "[1..$n]",
    "[1..10000000]",
    "[-10000000..5]",
    "[1..$count($x) * 1000]",
    "$reduce($x, function($a, $b) {[$a, $a]})",
    "$reduce($x, function($a, $b) {$merge([$a, $b])})",
    "$reduce($two, function($a, $b) {$map($two, function($v) {$a})})",
    "($f := function($s, $n) {$n = 0 ? $s : $f([$s, $s], $n - 1)}; $f(1, 40))",
    "($f := function($s, $n) {$n = 0 ? $s : $f({'a': $s, 'b': $s}, $n - 1)}; $f(1, 40))",
    "(function($g, $s) {$g($g, [$s, $s])})(function($g, $s) {$g($g, [$s, $s])}, 1)",
    "($p := $map(?, function($v) {[$map($v, $p)]}); $p($x))",
    "($c := $sum ~> function($x) {[$x, $x]}; $c($x))",
    "[function($g) {[$g($g)]}].($(function($g) {[$g($g)]}))",
    "$x and /a/",
    "".join(f"$a{n} := [$a{n - 1}, $a{n - 1}, $a{n - 1}]; " for n in range(1, 30)).join("()"),
    "{'a': 1}" + ".{'a': $, 'b': $}" * 30,
    "[1]" + ".[$, $]" * 30,
    "[1]" + ".$zip($, $)" * 30,
    "$map(" * 20 + "$x" + ", function($v) {[$v, $v]})" * 20,
]


@pytest.mark.parametrize("source", HERE)
def test_what_the_limits_bound_is_evaluated_here(source: str) -> None:
    quick = judge(source)
    assert not quick.small and MOST_BYTES // 8 <= quick.most_bytes <= MOST_BYTES


@pytest.mark.parametrize("source", SMALL)
def test_what_grows_with_the_square_of_its_data_is_evaluated_here_on_few(source: str) -> None:
    assert judge(source) == (SMALL_BYTES, True)


@pytest.mark.parametrize("source", ELSEWHERE)
def test_what_may_build_without_end_is_evaluated_elsewhere(source: str) -> None:
    assert judge(source) == NEVER or judge(source).most_bytes < 100


def test_what_has_struck_a_limit_is_not_tried_here_again() -> None:
    asked: list[Evaluation] = []

    def heavy(evaluation: Evaluation) -> Outcome:
        asked.append(evaluation)
        return Outcome('{"r":1}')

    def scope(text: str) -> StatesScope:
        return StatesScope(Document.parse(text), entropy=Entropy(0), heavy=heavy)

    compiled = compile_jsonata("{% ($f := function($n) {$n = 0 ? 0 : $f($n - 1)}; $f($states.input.n)) %}", "Output")
    assert compiled(scope('{"n":1000}')) == 0 and not asked
    assert compiled(scope('{"n":9000000}')) == 1 and len(asked) == 1
    most = compiled._query._most
    assert most < len(asked[0].document)
    assert compiled(scope('{"n":1000000}')) == 1 and len(asked) == 2
    assert compiled(scope('{"n":1}')) == 0 and len(asked) == 2
