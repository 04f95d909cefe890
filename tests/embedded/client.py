"""A client of an embedded server, for tests that kill it: says the URL, then lets go when its input ends.

Run as a file, by any Python that has no more than the standard library: `client.py postgres|valkey DATA_DIR`.
"""

from __future__ import annotations

import sys

from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey


def main(kind: str, data_dir: str) -> None:
    service = EmbeddedPostgres(data_dir) if kind == "postgres" else EmbeddedValkey(data_dir)
    with service.acquire() as handle:
        say(f"using {handle.url}")
        sys.stdin.read()
    say("released")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
