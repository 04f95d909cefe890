"""`stepwell demo`: a whole Stepwell, the examples run through it, and one failure repaired and redriven."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from stepwell.cli.client import Client, part
from stepwell.cli.demonstration import (
    Example,
    Server,
    data_directory,
    find_examples,
    own_command,
    stand_ins,
    without_catch,
)
from stepwell.cli.failures import ExitCode, fail_hard
from stepwell.cli.following import Event, HistoryReader, follow, wait_for
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output, duration, pretty, status
from stepwell.cli.progress import Progress, failure_text, parse_time

ORDER: Final = "order_processing"
FRAGILE: Final = "order_without_safety_net"
CHARGE: Final = "Charge the card"
ENOUGH_SECONDS: Final = 120.0


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Port of the API.  [8083 if it is free, else any]")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Keep the data there.  [a directory that is removed again]"
)
@json_option
@pass_output
def demo(output: Output, port: int | None, data_dir: Path | None) -> None:
    """Start a whole Stepwell here and run the examples through it; one of them fails, is repaired and goes on.

    At a terminal it stays up until Ctrl-C; elsewhere it ends when the story is told.
    """
    examples = find_examples()
    with ExitStack() as life:
        life.enter_context(ended_by_sigterm())
        services = life.enter_context(stand_ins(examples[0].root))
        data = life.enter_context(data_directory(data_dir))
        output.say(click.style("Starting Stepwell: PostgreSQL, Valkey, API, engine and workers ...", fg="bright_black"))
        server = Server(examples, data, services, port)
        life.callback(server.close)
        life.enter_context(stopping_said(output))
        url = server.wait_ready()
        client = Client(url)
        life.callback(client.close)
        story = Story(output, client, examples, services)
        story.tell()
        output.document({"url": url, **story.results})
        if story.failed:
            fail_hard(ExitCode.FAILED)
        if sys.stdin.isatty() and sys.stdout.isatty() and not output.json:
            story.farewell(url)
            wait_for_interrupt(output)
        else:
            output.say(
                "\nStopping. At a terminal it stays up, to be looked at; `stepwell up` starts one that is to stay."
            )


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that what was started is stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stopping_said(output: Output) -> Iterator[None]:
    """Say on Ctrl-C that what was started is being stopped, which takes seconds."""
    try:
        yield
    except KeyboardInterrupt:
        say_stopping(output)
        raise


def say_stopping(output: Output) -> None:
    """Say so on a line of its own, behind the terminal's `^C`."""
    output.say()
    output.say(click.style("Stopping ...", fg="bright_black"))


def wait_for_interrupt(output: Output) -> None:
    """Stay until Ctrl-C."""
    output.say(click.style("It stays up until Ctrl-C.", fg="bright_black"))
    with suppress(KeyboardInterrupt):
        while True:
            signal.pause()
    say_stopping(output)


class Story:
    """What the demonstration does, told as it happens. `results` is what it has to say to machines."""

    def __init__(self, output: Output, client: Client, examples: list[Example], stand_ins_url: str) -> None:
        self._output = output
        self._client = client
        self._examples = {example.name: example for example in examples}
        self._stand_ins = stand_ins_url
        self.results: dict[str, Any] = {}
        self.failed = False

    def tell(self) -> None:
        self._deploy()
        self._order()
        self._others()
        self._repair()

    # -- the chapters ----------------------------------------------------------------------------------------------

    def _deploy(self) -> None:
        self._title("1  Deploy the examples")
        for example in self._examples.values():
            self._client.put(f"/v1/state-machines/{part(example.name)}", {"definition": example.definition})
            for name, parameters in example.setup.get("connections", {}).items():
                self._client.put(f"/v1/connections/{part(name)}", {"authParameters": parameters})
        self._output.say(f"   {', '.join(self._examples)}")
        self.results["deployed"] = list(self._examples)

    def _order(self) -> None:
        self._title("2  Run an order: a function, a Celery task, an HTTP request, another function")
        view = self._run(ORDER, self._examples[ORDER].input(self._stand_ins))
        self._result(view)
        self._expect(view["status"] == "SUCCEEDED", f"the order ended as {view['status']}")
        self.results["order"] = {"status": view["status"], "output": view.get("output")}

    def _others(self) -> None:
        self._title("3  Run the other examples, all at once")
        alone = [one for one in self._examples.values() if one.runs_alone and one.name != ORDER]
        started = [(one, self._start(one.name, one.input(self._stand_ins))) for one in alone]
        rows = []
        for example, id in started:
            view = wait_for(self._client, id, ENOUGH_SECONDS)
            good = view["status"] == example.expected["status"]
            self._expect(good, f"{example.name} ended as {view['status']}")
            took = parse_time(view["stoppedAt"]) - parse_time(view["startedAt"]) if view.get("stoppedAt") else 0
            rows.append((example.name, view["status"], duration(took), view["events"]))
        self._output.table(["EXAMPLE", "STATUS", "TOOK", "EVENTS"], rows, "There are none.")
        self.results["examples"] = {row[0]: row[1] for row in rows}

    def _repair(self) -> None:
        self._title("4  An order fails: the payment service refuses our key")
        definition = without_catch(self._examples[ORDER].definition, CHARGE)
        self._client.put(f"/v1/state-machines/{FRAGILE}", {"definition": definition})
        good = self._examples[ORDER].setup["connections"]["payments"]
        self._client.put("/v1/connections/payments", {"authParameters": with_wrong_key(good)})
        view = self._run(FRAGILE, self._examples[ORDER].input(self._stand_ins))
        self._result(view)
        letters = list(self._client.pages("/v1/dead-letters", {"stateMachine": FRAGILE, "status": "OPEN"}))
        letter = next((one for one in letters if one["execution"] == view["id"]), None)
        self._expect(view["status"] == "FAILED" and letter is not None, "the order did not become a dead letter")
        if letter is None:
            return
        text = failure_text(letter.get("error"), letter.get("cause"))
        self._output.say(f"   It is kept as dead letter {letter['id']}: {letter['state']!r}, {shortened(text, 90)}")
        before = tasks_run(HistoryReader(self._client, view["id"]).read())

        self._title("5  Repair the cause, redrive the dead letter")
        self._client.put("/v1/connections/payments", {"authParameters": good})
        self._output.say("   The connection has the right key again.")
        self._client.post(f"/v1/dead-letters/{letter['id']}/redrive")
        view = follow(self._client, view["id"], Progress(self._told, after=view["events"]).feed, ENOUGH_SECONDS)
        self._result(view)
        after = tasks_run(HistoryReader(self._client, view["id"]).read())
        self._output.table(
            ["STATE", "RUN BEFORE", "RUN SINCE"],
            [(state, before[state], after[state] - before[state]) for state in after],
            "No tasks.",
        )
        repeated = [state for state in before if state != CHARGE and after[state] != before[state]]
        self._expect(view["status"] == "SUCCEEDED", f"the redriven order ended as {view['status']}")
        self._expect(not repeated, f"these succeeded before and ran again: {', '.join(repeated)}")
        if not repeated:
            self._output.say("   What had succeeded was not run again.")
        self.results["redrive"] = {
            "status": view["status"],
            "deadLetter": letter["id"],
            "runBefore": dict(before),
            "runSince": {state: after[state] - before[state] for state in after},
        }

    def farewell(self, url: str) -> None:
        """Where it is, and what to try next."""
        self._title(f"Stepwell runs at {url}")
        name = own_command()
        export = "" if url == "http://127.0.0.1:8083" else f"export STEPWELL_URL={url}"
        for line in (
            export,
            f"{name} list",
            f"{name} history ID --follow",
            f"{name} start {ORDER} --input @asl_examples/{ORDER}/input.declined.json --wait",
            f"aws stepfunctions list-state-machines --endpoint-url {url}",
            f"open {url}/docs",
        ):
            if line:
                self._output.say(f"   {click.style(line, fg='cyan')}")
        self._output.say()

    # -- telling ---------------------------------------------------------------------------------------------------

    def _title(self, text: str) -> None:
        self._output.say()
        self._output.say(click.style(text, bold=True))

    def _told(self, line: str) -> None:
        self._output.say(line)

    def _result(self, view: Mapping[str, Any]) -> None:
        self._output.say(f"   {status(view['status'])}")
        if "output" in view:
            for line in pretty(view["output"]).splitlines():
                self._output.say(f"   {line}")

    def _expect(self, true: bool, otherwise: str) -> None:
        if not true:
            self.failed = True
            self._output.say(click.style(f"   Not as it should be: {otherwise}.", fg="red"))
            self.results.setdefault("problems", []).append(otherwise)

    # -- doing -----------------------------------------------------------------------------------------------------

    def _start(self, machine: str, input: Any) -> str:
        view = self._client.post(f"/v1/state-machines/{part(machine)}/executions", {"input": input})
        return str(view["id"])

    def _run(self, machine: str, input: Any) -> dict[str, Any]:
        return follow(self._client, self._start(machine, input), Progress(self._told).feed, ENOUGH_SECONDS)


def with_wrong_key(parameters: Any) -> Any:
    """AuthParameters whose key is not the one that is known."""
    changed = json.loads(json.dumps(parameters))
    changed["ApiKeyAuthParameters"]["ApiKeyValue"] = "expired-key"
    return changed


def tasks_run(events: list[Event]) -> Counter[str]:
    """How often the task of each state was scheduled."""
    names: dict[int, str] = {}
    counts: Counter[str] = Counter()
    for event in events:
        names[event["id"]] = names.get(event["previousId"], "")
        if event["type"].endswith("StateEntered"):
            names[event["id"]] = str(event["details"]["name"])
        if event["type"].endswith("Scheduled"):
            counts[names[event["id"]]] += 1
    return counts


def shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
