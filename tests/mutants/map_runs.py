"""Plausible mistakes in Map Runs, each of which the tests must notice."""

from __future__ import annotations

from tests.mutants.harness import Mutant, unit

STEPS = "engine/runtime/map_run_steps.py"
PLAN = "engine/machine/map_run.py"
RANDOM = ("tests/properties/test_families.py", "tests/properties/test_machine.py::test_map_runs")
"""Random executions of Distributed Maps, killed at each commit."""

TROUBLE = "tests/runtime/test_map_run_trouble.py"
ITEMS_CHANGE = ("tests/targets/test_items.py::test_an_object_that_changes_meanwhile_is_not_read_on",)

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
    Mutant(
        "half_of_an_object_is_another_one",
        "engine/targets/objects.py",
        "        if version is not None and ranges.version != version:\n",
        "        if False:\n",
        "an object that changes while its items are read fails the run",
        ITEMS_CHANGE,
    ),
    Mutant(
        "half_of_an_object_in_s3_is_another_one",
        "engine/targets/s3_objects.py",
        '        if version is not None and answer["ETag"] != version:\n',
        "        if False:\n",
        "an object that changes while its items are read fails the run",
        ITEMS_CHANGE,
    ),
    Mutant(
        "a_step_is_tried_for_ever",
        "engine/runtime/map_runs.py",
        "if self._tries >= MAX_TRIES:",
        "if self._tries >= 100 * MAX_TRIES:",
        "a Map Run that cannot go on fails, and is not tried for ever",
        (f"{TROUBLE}::test_a_run_whose_step_cannot_be_taken_fails_in_the_end",),
    ),
    Mutant(
        "a_stop_waits_for_what_is_read",
        STEPS,
        "                self._pages.give_up()\n",
        "",
        "a Map Run that is stopped ends though storage does not answer",
        (f"{TROUBLE}::test_a_run_is_stopped_though_storage_does_not_answer",),
    ),
    Mutant(
        "engines_may_die_of_a_child_for_ever",
        STEPS,
        "if attempt > MAX_RUNS:",
        "if attempt > 100 * MAX_RUNS:",
        "an Express child that three engines were lost with is given up",
        ("tests/runtime/test_express_children.py::test_what_outlives_no_node_is_given_up",),
    ),
    Mutant(
        "nobody_is_told_of_a_childs_end",
        "engine/runtime/entries.py",
        "    entry.posts.append((map_run, message))\n",
        "    pass\n",
        "the last step of a child tells its Map Run",
        RANDOM,
    ),
)
