"""Values that a deployment tool fills in before it creates a machine: `${Name}` and CloudFormation's function objects.

SAM, CloudFormation, the CDK and the Serverless Framework substitute them. What such a value will be is unknown, so no rule about it
is checked where substitutions are still to come. It must not know any rule.
"""

from __future__ import annotations

import re
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json

PLACEHOLDER: Final = re.compile(r"\$\{[^{}]+\}")
"""A substitution in a string."""

_OTHER_FORMS: Final = re.compile(r"#\{[^{}]+\}|\{\{[^{}]+\}\}|<[A-Za-z][^<>]*>")
"""What other tools, and people who publish samples, write in place of a value: `#{Name}`, `{{Name}}`, `<Name>`."""

_IN_ARN: Final = re.compile(r"#\{[^{}]+\}|\{[^{}]+\}|<[^<>]+>|\[[^\[\]]+\]")
"""The same in an ARN, none of which has brackets."""

_IN_JSONATA: Final = re.compile(r"\$\{[A-Za-z0-9_.:\-]+\}")
"""A substitution in JSONata, where `${` can begin an object too."""

UNQUOTED_MARK: Final = "\ue000"
"""What the reader puts before the name of a substitution that stood without quotes, as in `"TimeoutSeconds": ${Timeout}`."""

_UNQUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|\$\{([A-Za-z0-9_.:\-]+)\}', re.DOTALL)

UNQUOTED: Final = re.compile(UNQUOTED_MARK + r"[A-Za-z0-9_.:\-]+")
"""Such a value: what else begins with the mark is text of somebody's own."""


def is_open(value: Json) -> bool:
    """Whether a deployment tool is to give this value, or a part of it."""
    if isinstance(value, str):
        if "${" not in value:
            return value.startswith(UNQUOTED_MARK) or _OTHER_FORMS.fullmatch(value) is not None
        return bool((_IN_JSONATA if value.startswith("{%") else PLACEHOLDER).search(value))
    if isinstance(value, dict) and len(value) == 1:
        name: str = next(iter(value))
        return name == "Ref" or name.startswith("Fn::")
    return False


def is_open_arn(text: str) -> bool:
    """Whether a text that should be an ARN has a part which is still to be filled in."""
    return text.startswith("arn:") and _IN_ARN.search(text) is not None


def left_open(report: Report, value: Json, place: Place) -> bool:
    """Whether a value is still to be filled in and may be; then a warning is noted, and no other rule applies to it."""
    if not report.placeholders or not is_open(value):
        return False
    shown = next(iter(value)) if isinstance(value, dict) else str(value)
    if shown.startswith(UNQUOTED_MARK):
        shown = f"${{{shown[1:]}}}"
    report.warn(
        place,
        f"The value {shown} has a substitution that is still to be filled in",
        DiagnosticCode.STEPWELL_PLACEHOLDER,
    )
    return True


def quote_unquoted(text: str) -> str:
    """JSON text in which each `${Name}` outside of strings is a string of the same length, so that no offset moves."""

    def quoted(match: re.Match[str]) -> str:
        return match[0] if match[1] is None else f'"{UNQUOTED_MARK}{match[1]}"'

    return _UNQUOTED.sub(quoted, text)
