"""How REST names an execution: by its key (32 hexadecimal digits), by its ARN, or as `machine:name`."""

from __future__ import annotations

import re
from typing import Final

from stepwell.engine.ids import ExecutionId, execution_id
from stepwell.engine.service import checks, refusals
from stepwell.engine.service.context import RequestContext

_KEY: Final = re.compile(r"[0-9a-f]{32}")


def execution_of(context: RequestContext, reference: str) -> ExecutionId:
    """The key of the execution meant. A `machine:name` is one of the caller's region and account."""
    if _KEY.fullmatch(reference):
        return ExecutionId(bytes.fromhex(reference))
    if reference.startswith("arn:"):
        arn = checks.any_arn(reference)
        if arn.kind != checks.EXPRESS:
            checks.arn_of(reference, checks.EXECUTION)
        return execution_id(reference)
    if ":" in reference:
        return execution_id(context.arn(checks.EXECUTION, reference))
    raise refusals.execution_does_not_exist(reference)
