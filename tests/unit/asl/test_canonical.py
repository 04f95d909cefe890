"""The canonical form never changes what a definition says, and is its own canonical form."""

from __future__ import annotations

import copy
import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stepwell.engine.asl import fields
from stepwell.engine.asl.canonical import ORDER, Role, canonical_json
from stepwell.engine.asl.canonical_yaml import canonical_yaml
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.asl.document import Syntax, read_document
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.choice_operators import OPERATORS
from tests.unit.asl.definitions import BODIES, machine
from tests.unit.asl.test_fuzz import LIKELY
from tests.unit.query.strategies import DOCUMENTS


@pytest.mark.parametrize(
    ("role", "tables"),
    (
        (Role.CONTAINER, (fields.MACHINE_FIELDS, fields.BRANCH_FIELDS, fields.PROCESSOR_FIELDS)),
        (Role.STATE, tuple(fields.STATE_FIELDS.values())),
        (Role.RETRIER, (fields.RETRIER_FIELDS,)),
        (Role.CATCHER, (fields.CATCHER_FIELDS,)),
        (Role.PROCESSOR_CONFIG, (fields.PROCESSOR_CONFIG_FIELDS,)),
        (Role.ITEM_READER, (fields.ITEM_READER_FIELDS,)),
        (Role.READER_CONFIG, (fields.READER_CONFIG_FIELDS,)),
        (Role.ITEM_BATCHER, (fields.ITEM_BATCHER_FIELDS,)),
        (Role.RESULT_WRITER, (fields.RESULT_WRITER_FIELDS,)),
        (Role.WRITER_CONFIG, (fields.WRITER_CONFIG_FIELDS,)),
    ),
)
def test_the_order_has_every_field_once(role: Role, tables: tuple[fields.FieldSet, ...]) -> None:
    known = {name for table in tables for name in table.fields}
    assert len(ORDER[role]) == len(set(ORDER[role]))
    assert set(ORDER[role]) == known


def test_the_order_of_rules_has_every_field_once() -> None:
    known = {*fields.JSONATA_RULE_FIELDS.fields, *OPERATORS, "And", "Or", "Not", "Variable"}
    assert sorted(ORDER[Role.RULE]) == sorted(known)


def test_the_form() -> None:
    definition: dict[str, Any] = {
        "States": {
            "B": {"End": True, "Unknown": 1, "Parameters": {"z": [], "a": {}}, "Type": "Pass"},
            "A": {
                "Next": "B",
                "Retry": [{"MaxAttempts": 1, "ErrorEquals": ["X", "Y"]}],
                "Resource": "celery:é\u200b",
                "Type": "Task",
            },
        },
        "StartAt": "A",
    }
    assert canonical_json(definition) == (
        """\
{
  "StartAt": "A",
  "States": {
    "B": {
      "Type": "Pass",
      "Parameters": {
        "z": [],
        "a": {}
      },
      "Unknown": 1,
      "End": true
    },
    "A": {
      "Type": "Task",
      "Resource": "celery:é\\u200b",
      "Retry": [
        {
          "ErrorEquals": ["X", "Y"],
          "MaxAttempts": 1
        }
      ],
      "Next": "B"
    }
  }
}
"""
    )


def test_open_values_stay_without_quotes() -> None:
    text = '{"States": {"A": {"Seconds": ${Wait}, "Type": "Wait", "End": true}}, "StartAt": "A"}'
    assert '"Seconds": ${Wait},' in canonical_json(read_document(text).value)


def exactly(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def machines(values: st.SearchStrategy[Json]) -> st.SearchStrategy[dict[str, Any]]:
    states = st.dictionaries(
        st.sampled_from(sorted({name for one in fields.STATE_FIELDS.values() for name in one.fields})), values
    )
    typed = st.builds(
        lambda name, more: {**copy.deepcopy(BODIES[name]), **more}, st.sampled_from(sorted(BODIES)), states
    )
    return st.builds(
        lambda states, more: {**more, "States": states},
        st.dictionaries(st.text(max_size=5), typed, min_size=1, max_size=4),
        st.dictionaries(st.sampled_from(["StartAt", "Comment", "Version", "Other"]), values),
    )


@given(machines(st.one_of(DOCUMENTS, LIKELY)))
def test_json_keeps_its_meaning(definition: dict[str, Any]) -> None:
    try:
        value = read_document(json.dumps(definition)).value
    except DefinitionError:
        return
    text = canonical_json(value)
    again = read_document(text).value
    assert exactly(again) == exactly(value)
    assert canonical_json(again) == text


def names(value: Any) -> list[str]:
    return [*value] if isinstance(value, dict) else []


@given(machines(DOCUMENTS))
def test_states_and_data_stay_in_order(definition: dict[str, Any]) -> None:
    again = json.loads(canonical_json(definition))
    assert names(again["States"]) == names(definition["States"])
    for name, state in definition["States"].items():
        for field in ("Parameters", "Result", "Assign"):
            assert exactly_in_order(again["States"][name].get(field)) == exactly_in_order(state.get(field))


def exactly_in_order(value: Any) -> str:
    return json.dumps(value)


COMMENTED = """\
# the machine
States:
    # about A
    A:
        Next: B   # trailing
        # why a pass
        Type: Pass
        Parameters:
            z: 1
            a.$: $.x
    B:
      Retry:
      - MaxAttempts: 2
        # which
        ErrorEquals: ["X"]
      # second
      - {MaxAttempts: 1, ErrorEquals: [Y]}
      Comment: |
        text
        # not a comment
      End: true
      Type: Task

      Resource: !GetAtt F.Arn
StartAt: A   # first
# footer
"""


def test_yaml_keeps_its_comments_at_what_they_are_about() -> None:
    assert canonical_yaml(COMMENTED) == (
        """\
StartAt: A   # first
# the machine
States:
  # about A
  A:
    # why a pass
    Type: Pass
    Parameters:
      z: 1
      a.$: $.x
    Next: B       # trailing
  B:
    Type: Task
    Comment: |
      text
      # not a comment

    Resource: !GetAtt F.Arn
    Retry:
      # which
      - ErrorEquals: ["X"]
        MaxAttempts: 2
      # second
      - {MaxAttempts: 1, ErrorEquals: [Y]}
    End: true
# footer
"""
    )


@pytest.mark.parametrize(
    "text",
    (
        "States: {A: &a {End: true, Type: Pass}, B: *a}\nStartAt: A\n",
        "States:\n  A: &a\n    End: true\n    Type: Pass\n  B:\n    <<: *a\nStartAt: A\n",
        "States:\n  A:\n    End: &e true\n    Type: Pass\n  B: {Type: Pass, End: *e}\nStartAt: A\n",
        "---\nStates:\n  A:\n    End: true\n    Comment: >-\n      folded\n      text\n    Type: Pass\nStartAt: A\n",
        "States:\n  A:\n    End: true\n    Comment: 'two\n      lines'\n    Type: Pass\nStartAt: A\n",
        "? States\n: A: {Type: Pass, End: true}\nStartAt: A\n",
        "States:\r\n  A:\r\n    End: true\r\n    Type: Pass\r\nStartAt: A\r\n",
        '{"States": {"A": {"End": true, "Type": "Succeed"}}, "StartAt": "A"}\n',
        "States:\n  A:\n    TimeoutSeconds: ${T}\n    Seconds: 0o17\n    Timestamp: 1.50\n    Type: on\nStartAt:\n",
        "%YAML 1.2\n---\nStates:\n  A: {Type: Pass, End: true}\nStartAt: A\n...\n",
        "States:\n# low\n  A:\n      # high\n    Type: Pass\n\n\n    End: true\n\nStartAt: A\n\n\n# end\n",
    ),
)
def test_odd_yaml_keeps_its_meaning(text: str) -> None:
    once = canonical_yaml(text)
    assert exactly(read_document(once, Syntax.YAML).value) == exactly(read_document(text, Syntax.YAML).value)
    assert canonical_yaml(once) == once
    assert sorted(line.strip() for line in once.splitlines() if line.strip().startswith("#")) == sorted(
        line.strip() for line in text.splitlines() if line.strip().startswith("#")
    )


def as_yaml(definition: Any) -> str:
    import io

    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(definition, stream)
    return stream.getvalue()


PLAIN = st.one_of(st.booleans(), st.integers(-5, 5), st.text(string.printable, max_size=12), st.just("on"))


@settings(max_examples=25)
@given(
    machines(
        st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(st.text(string.ascii_letters, max_size=4), PLAIN))
    )
)
def test_yaml_keeps_its_meaning(definition: dict[str, Any]) -> None:
    text = as_yaml(definition)
    try:
        value = read_document(text, Syntax.YAML).value
    except DefinitionError:
        return
    once = canonical_yaml(text)
    assert exactly(read_document(once, Syntax.YAML).value) == exactly(value)
    assert canonical_yaml(once) == once


def test_machines_of_all_types_are_in_order() -> None:
    for body in BODIES.values():
        definition = machine(dict(reversed(body.items())))
        (state, *_) = json.loads(canonical_json(definition))["States"].values()
        assert next(iter(state)) == "Type"
