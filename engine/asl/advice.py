"""What to do about text that could not be read, for the slips that are common. It must not know what a definition means."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from stepwell.engine.asl.diagnostics import Diagnostic

_SLIPS: Final = (
    (r"Unexpected character \('}' .* double-quote to start field name", "JSON has no comma after the last field."),
    (r"Unexpected character \('\]' .* expected a valid value", "JSON has no comma after the last item."),
    (r"Unexpected character \('''", "JSON has double quotes only."),
    (r"Unexpected character \('[/#]'", "JSON has no comments. Write Comment fields, or YAML in a .yaml file."),
    (r"Unrecognized token '(?:True|False|None|yes|no)'", "JSON has true, false and null."),
    (r"Unrecognized token", "Is it text? Text stands in double quotes."),
    (r"was expecting comma to separate", "Is a comma missing before it?"),
    (r"Unexpected end-of-input: was expecting closing quote", "A double quote is missing at the end of a string."),
    (r"Unexpected end-of-input", "The text ends too early: a } or ] is missing."),
    (r"Unexpected character \('[}\]]' .* expected nothing after", "There is one closing bracket too many."),
    (
        r"Illegal unquoted character \(\(CTRL-CHAR, code 1[03]\)\)",
        "A string ends in the line it begins in: write \\n for a new line. Is a double quote missing?",
    ),
    (r"Illegal unquoted character \(\(CTRL-CHAR, code 9\)\)", "Write \\t for a tab in a string."),
    (r"Unrecognized character escape", "Write \\\\ for a backslash."),
    (r"Invalid UTF-8 byte", "Save the file as UTF-8."),
    (r"Definition must be a valid JSON object$|The document is empty", "There is nothing in it."),
    (r"found character '\\t'", "YAML is indented with blanks, not with tabs."),
)
"""What messages of readers look like, and what is said about each."""

_LIKE_YAML: Final = re.compile(
    r"^(?:---|[\"']?(?:StartAt|States|Comment|Resources|Transform)[\"']?[ \t]*:)", re.MULTILINE
)


def advised(finding: Diagnostic, text: str, *, json: bool) -> Diagnostic:
    """A finding of a reader, with a hint where there is one. `json`: whether the text was read as JSON."""
    if finding.hint is not None:
        return finding
    if json and not text.lstrip("\ufeff \t\r\n").startswith("{") and _LIKE_YAML.search(text):
        return replace(finding, hint="It looks like YAML: name the file .yaml or .yml to have it read so.")
    first = finding.message.partition("\n")[0]
    return replace(finding, hint=next((advice for slip, advice in _SLIPS if re.search(slip, first)), None))
