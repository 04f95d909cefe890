"""`python -m asl_examples.stand_ins [PORT]`: run the stand-ins until interrupted."""

from __future__ import annotations

import sys

from aiohttp import web

from asl_examples.stand_ins.server import DEFAULT_PORT, StandIns


async def application() -> web.Application:
    """Made within the loop that serves it."""
    return StandIns().application()


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PORT)
