"""`python -m tests.properties`: counts what the 10,000 examples of the property tests are, as tables of Markdown."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from pathlib import Path

from tests.properties.census import Census, tables
from tests.properties.examples import EXAMPLES, PARTS, each_example

BEGIN, END = "<!-- census -->", "<!-- end of census -->"
TABLES = (
    "states", "Maps", "states of a machine", "depth of a machine", "bytes of a definition", "end", "events of a history", "commits",
    "end of a Map Run", "children of a Map Run", "end of a child execution", "what happened", "what happened to Map Runs", "timers that fired", "turning points", "fields", "events",
)  # fmt: skip


def count(part: int) -> Census:
    census = Census()
    each_example(lambda played, chance: census.take(played), EXAMPLES // PARTS, part)
    return census


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.properties", description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parts", type=int, default=PARTS, help=f"how many of the {PARTS} parts to count")
    parser.add_argument("--write", type=Path, help="a page of Markdown to write them into, between the marks for it")
    options = parser.parse_args()
    whole = Census()
    with multiprocessing.Pool(options.processes) as pool:
        for census in pool.imap_unordered(count, range(options.parts)):
            whole.add(census)
    text = "\n".join([f"{whole.examples:,} executions.", "", *tables(whole, TABLES)])
    if options.write is None:
        print(text)  # noqa: T201
    else:
        before, rest = options.write.read_text().split(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
