"""Whether a definition is one: walks it along the tables of `fields`, checks each value by `rules` and each graph by `graph`.

It finds everything that is wrong, not the first thing. It must not build anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final, TypeAlias

from stepwell.engine import limits
from stepwell.engine.asl import fields, query_rules, resource_rules, rules
from stepwell.engine.asl.conditions import JSONPATH_ONLY, check_rule
from stepwell.engine.asl.diagnostics import DefinitionError, Diagnostic, DiagnosticCode
from stepwell.engine.asl.fields import FieldSet, Kind
from stepwell.engine.asl.graph import check_graph
from stepwell.engine.asl.language import QueryLanguage, StateType
from stepwell.engine.asl.placeholders import is_open, left_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.resource_rules import Target
from stepwell.engine.asl.source import count_keys, read_definition, too_deep, with_positions
from stepwell.engine.jsontypes import Json, write_text


class MachineType(StrEnum):
    """What kind of executions a machine has."""

    STANDARD = "STANDARD"
    EXPRESS = "EXPRESS"


def validate(
    definition: str | bytes | Mapping[str, Json],
    *,
    target: Target | str = Target.STEPWELL,
    machine_type: MachineType | str = MachineType.STANDARD,
    runnable: bool = False,
) -> list[Diagnostic]:
    """Every finding about a definition, an object's own before those of what is in it; empty for a clean one.

    Findings of a text have line and column. Without `runnable` the language decides: it allows any URI as Resource, so one
    that nothing could run, or that a deployment tool is still to fill in, is a warning. With it, it is an error, as it is
    when a machine is created.
    """
    options = Target(target), MachineType(machine_type), runnable
    if isinstance(definition, Mapping):
        return check_definition(definition, *options).findings
    try:
        value = read_definition(definition)
    except DefinitionError as error:
        return list(error.diagnostics)
    return with_positions(check_definition(value, *options).findings, definition)


def check_definition(
    value: Json,
    target: Target = Target.STEPWELL,
    machine_type: MachineType = MachineType.STANDARD,
    runnable: bool = False,
) -> Report:
    """Walk a definition's JSON value; arguments as those of `validate`."""
    report = Report(placeholders=not runnable)
    if not isinstance(value, dict):
        report.findings.append(_NO_OBJECT)
        return report
    if count_keys(value) is None:
        report.findings.append(too_deep())
        return report
    language = QueryLanguage.JSONATA if value.get("QueryLanguage") == "JSONata" else QueryLanguage.JSONPATH
    if report.placeholders and is_open(value.get("QueryLanguage")) and "{%" in write_text(value):
        language = QueryLanguage.JSONATA
    walk = _Walk(report, language, resource_rules.Policy(target, machine_type is MachineType.EXPRESS, runnable))
    walk.container(value, None, fields.MACHINE_FIELDS)
    return report


def _fields_in(table: Mapping[str, fields.Field], language: QueryLanguage) -> list[str]:
    return [name for name, field in table.items() if field.kind(language) is not None]


def check_state(value: Json) -> Report:
    """Walk one state by itself, as TestState takes it: where it leads is not checked. It stands at the root."""
    report = Report()
    if not isinstance(value, dict):
        report.findings.append(_NO_OBJECT)
        return report
    if count_keys(value) is None:
        report.findings.append(too_deep())
        return report
    policy = resource_rules.Policy(Target.STEPWELL, express=False, runnable=True)
    _Walk(report, QueryLanguage.JSONPATH, policy).state(value, None)
    return report


_NO_OBJECT: Final = Diagnostic(DiagnosticCode.SCHEMA_VALIDATION_FAILED, "Definition must be a valid JSON object")


_Method: TypeAlias = "Callable[[_Walk, Json, Place, QueryLanguage], None]"


class _Walk:
    """One walk: what it has seen, and where findings go."""

    def __init__(self, report: Report, machine_language: QueryLanguage, policy: resource_rules.Policy) -> None:
        self.report = report
        self.machine_language = machine_language
        self.policy = policy
        self.state_names: set[str] = set()
        self.labels: set[str] = set()

    def container(self, value: Json, place: Place, field_set: FieldSet) -> None:
        """A machine, branch or processor: its fields, its states and their graph."""
        if self.fields(value, place, field_set, self.machine_language) and isinstance(value, dict):
            check_graph(self.report, value, place)

    def fields(self, value: Json, place: Place, field_set: FieldSet, language: QueryLanguage) -> bool:
        """Check an object against the table of its fields. False if it is no object."""
        report = self.report
        if left_open(report, value, place):
            return False
        if not isinstance(value, dict):
            report.error(place, "Expected value of type Object")
            return False
        table = field_set.fields
        missing = [
            name
            for name, field in table.items()
            if field.required and name not in value and field.kind(language) is not None
        ]
        if missing:
            self._missing(place, missing)
        for key, item in value.items():
            field = table.get(key)
            if field is None:
                if field_set is fields.JSONATA_RULE_FIELDS and key in JSONPATH_ONLY:
                    query_rules.wrong_language(report, place, key, language)
                else:
                    hint = report.meant(key, table)
                    report.error(place, f"Field '{key}' is not supported", hint=hint, at=(place, key))
                continue
            kind = field.kind(language)
            if kind is None:
                query_rules.wrong_language(report, place, key, language, _fields_in(table, language))
                continue
            if report.placeholders and self._left_open(kind, item, (place, key)):
                continue
            method = _CONTAINER_CHECKS.get(kind)
            if method is not None:
                method(self, item, (place, key), language)
            else:
                rules.VALUE_CHECKS[kind](report, item, (place, key), language)
        self._groups(value, place, field_set, language)
        return True

    def _left_open(self, kind: Kind, value: Json, place: Place) -> bool:
        if kind in _FREE or (kind in _STRINGS and isinstance(value, str)):
            return False
        return left_open(self.report, value, place)

    def _missing(self, place: Place, missing: list[str]) -> None:
        if place is None or len(missing) > 1:
            self.report.error(place, f"These fields are required: [{', '.join(missing)}]")
        else:
            self.report.error(place, f"The field '{missing[0]}' is required but was missing")

    def _groups(self, value: Mapping[str, Json], place: Place, field_set: FieldSet, language: QueryLanguage) -> None:
        for group in field_set.exclusive:
            found = [name for name in group if name in value]
            if len(found) > 1:
                self.report.error(place, f"Only one of these fields is allowed: [{', '.join(found)}]")
        for group in field_set.one_of:
            usable = [name for name in group if field_set.fields[name].kind(language) is not None]
            found = [name for name in usable if name in value and not (name == "End" and value[name] is False)]
            if len(found) > 1:
                self.report.error(place, f"Only one of these fields is allowed: [{', '.join(found)}]")
            elif not found:
                self.report.error(place, f"One of these fields is required: [{', '.join(usable)}]")

    def states(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """The States object."""
        if not isinstance(value, dict):
            self.report.error(place, "Expected value of type Object")
            return
        if not value:
            self.report.error(place, "Value cannot be empty")
        for name, state in value.items():
            here: Place = (place, name)
            self._state_name(name, here)
            if left_open(self.report, state, here):
                continue
            if isinstance(state, dict):
                self.state(state, here)
            else:
                self.report.error(here, "Expected value of type Object")

    def _state_name(self, name: str, place: Place) -> None:
        if not name or len(name) > limits.MAX_STATE_NAME_CHARS:
            self.report.error(
                place,
                f"State name must have 1 to {limits.MAX_STATE_NAME_CHARS} characters: {name}",
                DiagnosticCode.INVALID_STATE_NAME,
            )
        if name in self.state_names:
            self.report.error(place, f"Duplicate State name: {name}", DiagnosticCode.DUPLICATE_STATE_NAME)
        self.state_names.add(name)

    def state(self, state: Mapping[str, Json], place: Place) -> None:
        """One state, by the table of its type."""
        type_name = state.get("Type")
        if not isinstance(type_name, str) or type_name not in fields.CHOSEN_VALUES[Kind.STATE_TYPE]:
            if left_open(self.report, type_name, (place, "Type")):
                return
            if "Type" in state:
                rules.VALUE_CHECKS[Kind.STATE_TYPE](self.report, type_name, (place, "Type"), self.machine_language)
            else:
                self._missing(place, ["Type"])
            return
        language = self.machine_language
        own = state.get("QueryLanguage")
        if own == "JSONata" or (self.report.placeholders and is_open(own) and "{%" in write_text(state)):
            language = QueryLanguage.JSONATA
        elif own == "JSONPath" and language is QueryLanguage.JSONATA:
            self.report.error(
                place, "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine"
            )
            language = QueryLanguage.JSONPATH
        self.fields(state, place, fields.STATE_FIELDS[StateType(type_name)], language)
        if language is QueryLanguage.JSONATA:
            query_rules.check_states_members(self.report, state, place)
        elif type_name == "Pass":
            query_rules.check_static_result(self.report, state.get("Result"), (place, "Result"))

    def branches(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Branches of a Parallel."""
        for index, branch in enumerate(self._array(value, place)):
            self.container(branch, (place, index), fields.BRANCH_FIELDS)

    def processor(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """ItemProcessor or Iterator of a Map."""
        config = value.get("ProcessorConfig") if isinstance(value, dict) else None
        distributed = isinstance(config, dict) and config.get("Mode") == "DISTRIBUTED"
        policy = self.policy
        if distributed and isinstance(config, dict) and config.get("ExecutionType") == "EXPRESS":
            self.policy = replace(policy, express=True)  # its child executions are bound as Express ones are
        self.container(value, place, fields.PROCESSOR_FIELDS)
        self.policy = policy
        if policy.express and distributed:
            self.report.error(
                ((place, "ProcessorConfig"), "Mode"), "Express state machine does not support Distributed Map"
            )

    def choices(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Choices of a Choice state."""
        for index, rule in enumerate(self._array(value, place)):
            if language is QueryLanguage.JSONATA:
                self.jsonata_rule(rule, (place, index))
            else:
                check_rule(self.report, rule, (place, index))

    def jsonata_rule(self, rule: Json, place: Place) -> None:
        """A choice rule in JSONata; a field that only JSONPath rules have is said to be one."""
        self.fields(rule, place, fields.JSONATA_RULE_FIELDS, QueryLanguage.JSONATA)

    def retriers(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Retry."""
        entries = self._array(value, place, empty=True)
        for index, retrier in enumerate(entries):
            self.fields(retrier, (place, index), fields.RETRIER_FIELDS, language)
        self._all_comes_last(entries, place)

    def catchers(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Catch."""
        entries = self._array(value, place, empty=True)
        for index, catcher in enumerate(entries):
            self.fields(catcher, (place, index), fields.CATCHER_FIELDS, language)
        self._all_comes_last(entries, place)

    def _all_comes_last(self, entries: list[Json], place: Place) -> None:
        for index, entry in enumerate(entries[:-1]):
            if isinstance(entry, dict) and entry.get("ErrorEquals") == ["States.ALL"]:
                self.report.error((place, index), "'States.ALL' can only be in the last element")

    def _array(self, value: Json, place: Place, *, empty: bool = False) -> list[Json]:
        if not isinstance(value, list):
            self.report.error(place, "Expected value of type Array")
            return []
        if not value and not empty:
            self.report.error(place, "Value cannot be empty")
        return value

    def resource(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Resource of a Task."""
        resource_rules.check_resource(self.report, value, place, self.policy)

    def reader_resource(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Resource of an ItemReader."""
        resource_rules.check_storage(self.report, value, place, self.policy, resource_rules.READERS)

    def writer_resource(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Resource of a ResultWriter."""
        resource_rules.check_storage(self.report, value, place, self.policy, resource_rules.WRITERS)

    def credentials(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Credentials of a Task."""
        if language is QueryLanguage.JSONATA:
            query_rules.check_jsonata_object(self.report, value, place, language)
        else:
            query_rules.check_object_template(self.report, value, place, language)
        # The language leaves the content to the interpreter; AWS, which wants a RoleArn, is the only one JSONata has.
        strict = self.policy.runnable or self.policy.target is Target.AWS or language is QueryLanguage.JSONATA
        if strict and isinstance(value, dict):
            if "RoleArn" not in value and "RoleArn.$" not in value:
                self._missing(place, ["RoleArn"])
            elif not isinstance(value.get("RoleArn", ""), str) and not left_open(self.report, value["RoleArn"], place):
                self.report.error((place, "RoleArn"), "Expected value of type String")

    def assign(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Assign."""
        query_rules.check_assign(self.report, value, place, language)
        if self.policy.target is Target.AWS and isinstance(value, dict):
            for name in value:
                if "-" in name:
                    self.report.error(place, query_rules.invalid_variable(name), hint=query_rules.VARIABLE_NAMES)

    def label(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """Label of a Map; no two Maps of a definition have the same."""
        rules.check_label(self.report, value, place, language)
        if isinstance(value, str):
            if value in self.labels:
                self.report.error(place, f"Duplicate label name: {value}", DiagnosticCode.DUPLICATE_LABEL_NAME)
            self.labels.add(value)

    def writer(self, value: Json, place: Place, language: QueryLanguage) -> None:
        """ResultWriter: writes somewhere, or says how results look, or both."""
        self.fields(value, place, fields.RESULT_WRITER_FIELDS, language)
        if isinstance(value, dict) and "Resource" not in value and "WriterConfig" not in value:
            self.report.error(place, "One of these fields is required: [Resource, WriterConfig]")


def _nested(field_set: FieldSet) -> _Method:
    def check(walk: _Walk, value: Json, place: Place, language: QueryLanguage) -> None:
        walk.fields(value, place, field_set, language)

    return check


_FREE: Final = frozenset(
    {Kind.ANY, Kind.TEMPLATE, Kind.JSONATA_VALUE, Kind.RESOURCE, Kind.READER_RESOURCE, Kind.WRITER_RESOURCE}
)
"""The kinds to which a value that is still to be filled in makes no difference, or whose check knows of them."""

_STRINGS: Final = frozenset({Kind.STRING, Kind.COMPUTED_STRING})
"""The kinds for which a string with a substitution in it is as good as any."""

_CONTAINER_CHECKS: Final[Mapping[Kind, _Method]] = {
    Kind.STATES: _Walk.states,
    Kind.BRANCHES: _Walk.branches,
    Kind.PROCESSOR: _Walk.processor,
    Kind.CHOICES: _Walk.choices,
    Kind.RETRIERS: _Walk.retriers,
    Kind.CATCHERS: _Walk.catchers,
    Kind.RESOURCE: _Walk.resource,
    Kind.READER_RESOURCE: _Walk.reader_resource,
    Kind.WRITER_RESOURCE: _Walk.writer_resource,
    Kind.CREDENTIALS: _Walk.credentials,
    Kind.ASSIGN: _Walk.assign,
    Kind.LABEL: _Walk.label,
    Kind.RESULT_WRITER: _Walk.writer,
    Kind.PROCESSOR_CONFIG: _nested(fields.PROCESSOR_CONFIG_FIELDS),
    Kind.ITEM_READER: _nested(fields.ITEM_READER_FIELDS),
    Kind.READER_CONFIG: _nested(fields.READER_CONFIG_FIELDS),
    Kind.ITEM_BATCHER: _nested(fields.ITEM_BATCHER_FIELDS),
    Kind.WRITER_CONFIG: _nested(fields.WRITER_CONFIG_FIELDS),
}
"""The checks of the kinds that hold fields of their own, or that depend on what the walk has seen."""
