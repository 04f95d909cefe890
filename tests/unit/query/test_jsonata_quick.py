"""Which expressions are evaluated in the engine's own process, and that nothing there escapes the limits."""

from __future__ import annotations

import jlens
import msgspec
import pytest

from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.query.jsonata import FULL, Evaluation, Jsonata, Outcome, compile_jsonata, evaluation
from stepwell.engine.query.jsonata.pace import REST, STRIKES
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
    "[1..²]",
    "[0..$count($x) + 90000]",
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


def test_what_has_struck_a_limit_is_not_tried_here_again(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = msgspec.structs.replace(evaluation.IN_PROCESS, seconds=60)  # steps alone are to strike
    monkeypatch.setattr("stepwell.engine.query.jsonata.expressions.IN_PROCESS", patient)
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


class Library:
    """Stands for the JSONata library: what it raises, or a number."""

    def __init__(self) -> None:
        self.raises: BaseException | None = None
        self.calls = 0

    def evaluate_json(self, *arguments: object, **limits: object) -> str:
        self.calls += 1
        if self.raises is not None:
            raise self.raises
        return '{"r":1}'


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    standing = Library()
    monkeypatch.setattr(evaluation, "_compiled", lambda source: standing)
    return standing


def tried_here(compiled: Jsonata, library: Library, input: Json = None) -> bool:
    before = library.calls
    scope = StatesScope(Document.of(input), entropy=Entropy(1), heavy=lambda evaluation: Outcome('{"r":2}'))
    compiled.document(scope)
    return library.calls > before


def test_an_expression_that_was_held_up_once_is_tried_here_again(library: Library) -> None:
    compiled = compile_jsonata("{% $states.input.a %}", "Output")
    library.raises = jlens_error("D1012")
    for _ in range(STRIKES - 1):
        assert tried_here(compiled, library)
    library.raises = None
    for _ in range(2):
        assert tried_here(compiled, library)
    library.raises = jlens_error("D1012")
    for _ in range(STRIKES):
        assert tried_here(compiled, library)


def test_an_expression_that_takes_too_long_again_and_again_rests_and_may_recover(library: Library) -> None:
    compiled = compile_jsonata("{% $states.input.a %}", "Output")
    large, small = {"a": "x" * 100}, {"a": "x"}
    library.raises = jlens_error("D1012")
    for _ in range(STRIKES):
        assert tried_here(compiled, library, large)
    assert not any(tried_here(compiled, library, large) for _ in range(REST - 1))
    library.raises = None
    assert tried_here(compiled, library, small), "less data may go well"
    assert not tried_here(compiled, library, large)
    library.raises = jlens_error("D1012")
    assert tried_here(compiled, library, large)
    assert not any(tried_here(compiled, library, large) for _ in range(REST)), "one more is enough to rest again"
    library.raises = None
    for _ in range(STRIKES):
        assert tried_here(compiled, library, large)


@pytest.mark.parametrize("code", ("D1011", "U1001", "U1006"))
def test_other_limits_strike_whenever_there_is_as_much_data(library: Library, code: str) -> None:
    compiled = compile_jsonata("{% $states.input.a %}", "Output")
    library.raises = jlens_error(code)
    assert tried_here(compiled, library, {"a": "xx"})
    library.raises = None
    assert not tried_here(compiled, library, {"a": "yy"})
    assert tried_here(compiled, library, {"a": "y"})


def test_a_fault_of_the_library_is_an_outcome(library: Library) -> None:
    class PanicException(BaseException):
        pass

    library.raises = PanicException("index out of bounds")
    outcome = evaluation.carry_out(Evaluation("1", "{}"), FULL)
    assert (outcome.code, outcome.limit, outcome.text) == ("U1001", True, None)
    library.raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        evaluation.carry_out(Evaluation("1", "{}"), FULL)


def jlens_error(code: str) -> jlens.JlensError:
    error = jlens.JlensError(code)
    error.code = code
    error.start = error.end = None
    return error
