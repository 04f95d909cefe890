"""JSONata as a query language of states: `{% ... %}` strings compiled once, evaluated against `$states` and the variables.

AWS guide, "Transforming data with JSONata in Step Functions". An expression sees `$states` (`input`, `context`, and where
there is one `result` or `errorOutput`), the variables by their names, the functions of JSONata but `$eval`, and AWS's own.
There is no input document: `$`, `$$` and names without a dollar are undefined at the top of an expression.

`expressions` compiles one expression, `templates` fields that hold several, `functions` has AWS's functions, `evaluation`
carries out. It must not know which state is running.
"""

from stepwell.engine.query.evaluation import Evaluation, Known, Outcome, Outcomes, OverBudgetError
from stepwell.engine.query.jsonata.evaluation import FULL, IN_PROCESS, Budget, carry_out
from stepwell.engine.query.jsonata.expressions import (
    Jsonata,
    compile_jsonata,
    compile_jsonata_condition,
    is_jsonata,
    source_of,
)
from stepwell.engine.query.jsonata.templates import compile_jsonata_template

__all__ = [
    "FULL",
    "IN_PROCESS",
    "Budget",
    "Evaluation",
    "Jsonata",
    "Known",
    "Outcome",
    "Outcomes",
    "OverBudgetError",
    "carry_out",
    "compile_jsonata",
    "compile_jsonata_condition",
    "compile_jsonata_template",
    "is_jsonata",
    "source_of",
]
