"""Long soaks: `python -m tests.simulation --seeds 0:10000 --worlds express`; exits with 1 and names the seeds that failed."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from functools import partial

from tests.simulation.world import Options, Result, simulate

WORLDS = {
    "mixed": Options(),
    "distributed": Options(distributed=True),
    "express": Options(distributed=True, express=True),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="FIRST:AFTER_LAST")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--show", type=int, default=3, help="how many broken promises of a seed to print")
    parser.add_argument("--worlds", choices=WORLDS, default="mixed")
    options = parser.parse_args()
    first, _, after = options.seeds.partition(":")
    seeds = range(int(first), int(after or int(first) + 1))
    began = time.monotonic()
    failed: list[Result] = []
    commits = crashes = 0
    run = partial(simulate, options=WORLDS[options.worlds])
    with multiprocessing.Pool(options.processes) as pool:
        for result in pool.imap_unordered(run, seeds, chunksize=5):
            commits += result.commits
            crashes += result.crashes
            if result.broken:
                failed.append(result)
                print(f"seed {result.seed}:", *result.broken[: options.show], sep="\n  ", flush=True)  # noqa: T201
    took = time.monotonic() - began
    print(f"{len(seeds)} seeds, {len(failed)} failed, {commits} commits, {crashes} crashes, {took:.1f} s")  # noqa: T201
    if failed:
        print("failed:", *sorted(result.seed for result in failed))  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
