"""From tokens to closures: what reads a document. Compiled once; nothing is parsed when a document is read.

A walker is called with (node, document, results) and appends what it finds; each token is compiled around the walker
of the tokens after it. Paths of plain names and indexes, nearly all there are, do without walkers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from stepwell.engine.errors import InvalidQueryError, JsonTextError, PathNotFoundError, QueryError
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query.effort import begin, bounded, spend, uncounted
from stepwell.engine.query.jsonpath.filters import Predicate, Reader, compile_filter
from stepwell.engine.query.jsonpath.functions import FUNCTIONS
from stepwell.engine.query.jsonpath.operators import UNDEFINED
from stepwell.engine.query.jsonpath.parser import parse_path
from stepwell.engine.query.jsonpath.tokens import (
    Filter,
    Function,
    Index,
    Literal,
    ParsedPath,
    Property,
    Scan,
    Slice,
    Token,
    Wildcard,
    is_definite,
)
from stepwell.engine.query.values import kind_of

_CONTAINERS: Final = (dict, list)

Walker: TypeAlias = Callable[[Json, Json, list[Json]], None]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What absence means. `lenient`: nothing at all, the rule of the States Language for paths that give lists.
    `strict`: an error even below wildcards, the rule of existence tests in filters."""

    depth: int
    lenient: bool = False
    strict: bool = False


def compile_evaluator(path: ParsedPath) -> Callable[[Json], Json]:
    """A reader of whole documents, with the States Language's rule: a list path over an absent property gives []."""
    tokens = path.tokens
    fast = _plain(tokens)
    if fast is None:
        reader = _reader(path, _Rules(0, lenient=not path.definite))
        repeats = any(map(_repeats, tokens))

        def evaluate(document: Json) -> Json:
            begin()
            value = reader(document, document)
            return bounded(value) if repeats else value

        return evaluate
    if not tokens:
        return lambda document: document

    def explain(document: Json) -> Json:
        # Compiled only when it is needed, to raise the error that says where the path broke off.
        with uncounted():
            return _reader(path, _Rules(0))(document, document)

    names, all_names = fast
    return _by_names(names, explain) if all_names and len(names) <= 4 else _by_steps(names, explain)


def is_plain(path: ParsedPath) -> bool:
    """Whether the path is made of single names and indexes only, whose reading takes no effort."""
    return _plain(path.tokens) is not None


def _repeats(token: Token) -> bool:
    """Whether a path with this token may give the same data several times."""
    match token:
        case Index(indexes=several) | Property(names=several):
            return len(several) > 1
        case _:
            return isinstance(token, Scan | Function)


def _plain(tokens: tuple[Token, ...]) -> tuple[list[str | int], bool] | None:
    """The keys of a path made only of single names and indexes, and whether all are names."""
    keys: list[str | int] = []
    for token in tokens:
        if isinstance(token, Property) and len(token.names) == 1:
            keys.append(token.names[0])
        elif isinstance(token, Index) and len(token.indexes) == 1:
            keys.append(token.indexes[0])
        else:
            return None
    return keys, all(isinstance(key, str) for key in keys)


def _by_names(names: list[Any], slow: Callable[[Json], Json]) -> Callable[[Json], Json]:
    """Subscripting with a name succeeds on objects only, so a failure is all there is to check; `slow` explains it."""
    a, b, c, d = [*names, None, None, None][:4]

    def one(document: Any) -> Json:
        try:
            return document[a]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            return slow(document)

    def two(document: Any) -> Json:
        try:
            return document[a][b]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            return slow(document)

    def three(document: Any) -> Json:
        try:
            return document[a][b][c]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            return slow(document)

    def four(document: Any) -> Json:
        try:
            return document[a][b][c][d]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            return slow(document)

    return (one, two, three, four)[len(names) - 1]


def _by_steps(keys: list[Any], slow: Callable[[Json], Json]) -> Callable[[Json], Json]:
    steps = [(key, dict if isinstance(key, str) else list) for key in keys]

    def read(document: Json) -> Json:
        node: Any = document
        try:
            for key, kind in steps:
                if type(node) is not kind:
                    return slow(document)
                node = node[key]
        except (KeyError, IndexError):
            return slow(document)
        return cast(Json, node)

    return read


def _reader(path: ParsedPath, rules: _Rules, *, definite: bool | None = None) -> Reader:
    """Reads (node, document): the value of a definite path, the list of any other."""
    walker = _chain(path.tokens, 0, "$", rules)
    if not (path.definite if definite is None else definite):

        def many(node: Json, root: Json) -> Json:
            found: list[Json] = []
            walker(node, root, found)
            return found

        return many
    message = f"No results for path: {path.normalized}"

    def single(node: Json, root: Json) -> Json:
        found: list[Json] = []
        walker(node, root, found)
        if not found:
            raise PathNotFoundError(message)
        return found[-1]

    return single


def _operand_compiler(depth: int) -> Callable[[str, bool], Reader]:
    def compile_operand(text: str, strict: bool) -> Reader:
        path = parse_path(text, depth + 1)
        member = path.tokens[0] if path.current and len(path.tokens) == 1 else None
        if isinstance(member, Property) and len(member.names) == 1:
            return _member(member.names[0], strict=strict)
        reader = _reader(path, _Rules(depth + 1, strict=strict))
        # An existence test looks at the item even where it begins with `$`.
        return reader if path.current or strict else lambda item, root: reader(root, root)

    return compile_operand


def _member(name: str, *, strict: bool) -> Reader:
    """`@.name`, the operand of nearly every filter; only existence tests, the strict ones, want an exception."""

    def read(item: Json, root: Json) -> Json:
        if isinstance(item, dict) and name in item:
            return cast(Json, item[name])
        if strict:
            raise PathNotFoundError(f"No results for path: @['{name}']")
        return UNDEFINED

    return read


def _found(node: Json, root: Json, found: list[Json]) -> None:
    found.append(node)


def _chain(tokens: tuple[Token, ...], position: int, where: str, rules: _Rules) -> Walker:
    """The walker of the tokens from `position` on; `where` is the text of those before it."""
    if position == len(tokens):
        return _found
    token = tokens[position]
    definite = is_definite(tokens[:position]) and not _iterates(tokens[:position])
    leaf = position == len(tokens) - 1
    here = where + token.fragment
    rest = "".join(each.fragment for each in tokens[position:])
    if isinstance(token, Scan):
        return _scan(tokens, position, here, rules)
    following = _chain(tokens, position + 1, here, rules)
    match token:
        case Property(names=names) if len(names) == 1:
            if leaf and not definite and not rules.strict:
                return _last_property(names[0])
            # An absent leaf is no error here: a definite path then finds nothing at all and says so itself.
            required = rules.strict or (definite and not leaf and not rules.lenient)
            return _one_property(token, following, (where, here), definite=definite, required=required)
        case Property():
            if leaf:
                return _merged_properties(token, following, where, definite, rules)
            branches = [
                _one_property(
                    Property((name,), token.quote), following, (where, here), definite=definite, required=rules.strict
                )
                for name in token.names
            ]
            return _all_of(branches)
        case Index() | Slice():
            return _positions(token, following, (where, rest), definite)
        case Wildcard():
            calls = any(isinstance(each, Function) for each in tokens[position + 1 :])
            return _wildcard(_forgiving(following) if calls else following)
        case Filter(criteria=criteria):
            predicate = compile_filter(criteria, _operand_compiler(rules.depth))
            return _filter(predicate, following, definite, rest, _weight(criteria))
        case Function():
            return _function(token, following, rules, leaf=leaf)


def _iterates(tokens: tuple[Token, ...]) -> bool:
    return any(isinstance(token, Property) and len(token.names) > 1 for token in tokens)


def _all_of(walkers: list[Walker]) -> Walker:
    def walk(node: Json, root: Json, found: list[Json]) -> None:
        spend(len(walkers))
        for walker in walkers:
            walker(node, root, found)

    return walk


def _no_object(token: Property, where: str, node: Json) -> PathNotFoundError:
    return PathNotFoundError(
        f"Expected to find an object with property {token.fragment} in path {where} but found '{kind_of(node)}'."
    )


def _one_property(
    token: Property, following: Walker, place: tuple[str, str], *, definite: bool, required: bool
) -> Walker:
    where, here = place
    name = token.names[0]

    def walk(node: Json, root: Json, found: list[Json]) -> None:
        if isinstance(node, dict):
            if name in node:
                following(node[name], root, found)
            elif required:
                raise PathNotFoundError(f"Missing property in path {here}")
        elif definite:
            raise _no_object(token, where, node)

    return walk


def _last_property(name: str) -> Walker:
    """The commonest end of a list path, without a call for each item found."""

    def walk(node: Json, root: Json, found: list[Json]) -> None:
        if isinstance(node, dict) and name in node:
            found.append(node[name])

    return walk


def _merged_properties(token: Property, following: Walker, where: str, definite: bool, rules: _Rules) -> Walker:
    def walk(node: Json, root: Json, found: list[Json]) -> None:
        if isinstance(node, dict):
            spend(len(token.names))
            if rules.strict and not all(name in node for name in token.names):
                raise PathNotFoundError(f"Missing property in path {where}{token.fragment}")
            following({name: node[name] for name in token.names if name in node}, root, found)
        elif definite:
            raise _no_object(token, where, node)

    return walk


def _positions(token: Index | Slice, following: Walker, place: tuple[str, str], definite: bool) -> Walker:
    where, rest = place
    select = _indexes(token.indexes) if isinstance(token, Index) else _slice(token)

    def walk(node: Json, root: Json, found: list[Json]) -> None:
        if isinstance(node, list):
            items = select(node)
            spend(len(items))
            for item in items:
                following(item, root, found)
        elif definite:
            raise PathNotFoundError(
                f"The path {where} is null"
                if node is None
                else f"Filter: {rest} can only be applied to arrays. Current context is: {_shown(node)}"
            )

    return walk


def _shown(node: Json) -> str:
    try:
        return write_text(node)
    except JsonTextError:
        return kind_of(node)


def _at(items: list[Json], index: int) -> list[Json]:
    return [items[index]] if -len(items) <= index < len(items) else []


def _indexes(indexes: tuple[int, ...]) -> Callable[[list[Json]], list[Json]]:
    def select(items: list[Json]) -> list[Json]:
        spend(len(indexes))
        return [item for index in indexes for item in _at(items, index)]

    return select


def _slice(token: Slice) -> Callable[[list[Json]], list[Json]]:
    start, stop = token.start, token.stop
    if start is None:
        return lambda items: items[:stop]
    if stop is None:
        return lambda items: items[start:]
    # The dialect counts from `start` up to `stop` and reads negative positions from the end.
    return lambda items: [
        item for index in range(max(start, -len(items)), min(stop, len(items))) for item in _at(items, index)
    ]


def _wildcard(following: Walker) -> Walker:
    def walk(node: Json, root: Json, found: list[Json]) -> None:
        if isinstance(node, dict):
            spend(len(node))
            for value in node.values():
                following(value, root, found)
        elif isinstance(node, list):
            spend(len(node))
            for value in node:
                following(value, root, found)

    return walk


def _forgiving(following: Walker) -> Walker:
    """Below a wildcard an argument of a function that leads nowhere is no error: there is nothing to be found."""

    def walk(node: Json, root: Json, found: list[Json]) -> None:
        with suppress(PathNotFoundError):
            following(node, root, found)

    return walk


def _weight(criteria: str) -> int:
    """Steps of testing a node by a filter: the longer the filter, the longer it takes."""
    return 1 + len(criteria) // 16


def _filter(predicate: Predicate, following: Walker, definite: bool, rest: str, weight: int) -> Walker:
    def walk(node: Json, root: Json, found: list[Json]) -> None:
        if isinstance(node, list):
            spend(weight * len(node))
            for item in node:
                if predicate(item, root):
                    following(item, root, found)
        elif isinstance(node, dict):
            if predicate(node, root):
                following(node, root, found)
        elif definite:
            raise QueryError(f"Filter: {rest} can not be applied to primitives. Current context is: {_shown(node)}")

    return walk


def _scan(tokens: tuple[Token, ...], position: int, here: str, rules: _Rules) -> Walker:
    following = _chain(tokens, position + 1, here, rules)
    matches = _scan_test(tokens[position + 1], leaf=position + 2 == len(tokens), rules=rules)
    each = _scan_weight(tokens[position + 1])

    def walk(node: Json, root: Json, found: list[Json]) -> None:
        stack = [node]
        while stack:
            current = stack.pop()
            if isinstance(current, dict):
                members = list(current.values())
            elif isinstance(current, list):
                members = current
            else:
                continue
            spend(each + len(members))
            if matches(current, root):
                following(current, root, found)
            stack.extend(member for member in reversed(members) if isinstance(member, _CONTAINERS))

    return walk


def _scan_weight(token: Token) -> int:
    match token:
        case Property(names=names):
            return len(names)
        case Filter(criteria=criteria):
            return _weight(criteria)
        case _:
            return 1


def _scan_test(token: Token, *, leaf: bool, rules: _Rules) -> Predicate:
    """Which nodes a scan offers to the token after it."""
    match token:
        case Property(names=(name,)):
            return lambda node, root: isinstance(node, dict) and name in node
        case Property(names=names) if leaf:
            return lambda node, root: isinstance(node, dict) and all(name in node for name in names)
        case Property():
            return lambda node, root: isinstance(node, dict)
        case Index() | Slice():
            return lambda node, root: isinstance(node, list)
        case Wildcard():
            return lambda node, root: True
        case Filter(criteria=criteria):
            return compile_filter(criteria, _operand_compiler(rules.depth))
        case _:
            return lambda node, root: False


def _function(token: Function, following: Walker, rules: _Rules, *, leaf: bool) -> Walker:
    """What a function gives is found, and what follows it looks at that."""
    function = FUNCTIONS.get(token.name)
    if function is None:
        raise InvalidQueryError(f"Function with name: {token.name} does not exist.")
    arguments = [_argument(argument, token.name, rules) for argument in token.arguments]

    def walk(node: Json, root: Json, found: list[Json]) -> None:
        given = [argument(node, root) for argument in arguments]
        spend(5 + sum(len(one) for one in (node, *given) if isinstance(one, list)))
        result = function(node, given)
        if not leaf:
            found.append(result)
        following(result, root, found)

    return walk


def _argument(argument: ParsedPath | Literal, function: str, rules: _Rules) -> Reader:
    if isinstance(argument, Literal):
        value = argument.value
        return lambda node, root: value
    path = argument
    if function in ("length", "size"):
        # length($..x) counts the members of what the path finds; of a definite path the last member is looked at.
        path = ParsedPath((*argument.tokens, Wildcard()), argument.current)
    reader = _reader(path, _Rules(rules.depth + 1), definite=argument.definite)
    return lambda node, root: reader(root, root)
