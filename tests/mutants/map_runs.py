"""Plausible mistakes in Map Runs, each of which the tests must notice."""

from __future__ import annotations

from tests.mutants.harness import Mutant, unit

STEPS = "engine/runtime/map_run_steps.py"
PLAN = "engine/machine/map_run.py"
RANDOM = ("tests/properties/test_families.py", "tests/properties/test_machine.py::test_map_runs")
"""Random executions of Distributed Maps, killed at each commit."""

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "one_failure_too_many",
        PLAN,
        "if count is not None and failed > count:",
        "if count is not None and failed > count + 1:",
        "ToleratedFailureCount is the most that may fail",
        unit("test_map_run_plan"),
    ),
    Mutant(
        "the_cursor_stands_still",
        PLAN,
        "progress.made, progress.cursor, progress.source = last.number + 1, last.cursor, last.source",
        "progress.made, progress.source = last.number + 1, last.source",
        "whoever goes on reading begins behind the last item that was made a child",
        RANDOM,
    ),
    Mutant(
        "items_draw_anew_after_a_crash",
        "engine/runtime/map_run_pages.py",
        'Entropy(int.from_bytes(self._box.id, "big"))',
        "Entropy(self._tools.seeds.seed())",
        "what an item's selector draws is the same whenever the item is taken",
        RANDOM,
    ),
    Mutant(
        "running_children_are_forgotten",
        STEPS,
        "            self._running |= {item.number: item.size for item in page}\n",
        "            pass\n",
        "who reads a Map Run back has to know which children run",
        RANDOM,
    ),
    Mutant(
        "a_child_ends_as_often_as_it_says_so",
        STEPS,
        "size = self._running.pop(event.item, None)",
        "size = self._running.pop(event.item, 1)",
        "the end of a child that does not run is none",
        RANDOM,
    ),
    Mutant(
        "mail_is_never_consumed",
        STEPS,
        "        entry.inbox_gone = [mail.row for mail in self._taken if mail.row is not None]\n",
        "        entry.inbox_gone = []\n",
        "a message goes away with the step that applies it",
        RANDOM,
    ),
    Mutant(
        "a_stop_overtakes_a_redrive",
        STEPS,
        "waits = isinstance(event, MapRunRedriven) or (deferred and isinstance(event, MapRunStopped))",
        "waits = isinstance(event, MapRunRedriven)",
        "a stop behind a redrive that waits is of what is redriven",
        RANDOM,
    ),
    Mutant(
        "an_older_end_counts",
        "engine/machine/states/distributed_map.py",
        "frame.phase is not Phase.MAP_RUN or open.redrives != event.redrives:",
        "frame.phase is not Phase.MAP_RUN:",
        "what a Map Run came to before it was redriven is not what it comes to",
        unit("test_distributed_map"),
    ),
)
