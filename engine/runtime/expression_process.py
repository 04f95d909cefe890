"""The helper process: evaluates expressions one after another for the engine that started it, within limits of its own.

`python -m stepwell.engine.runtime.expression_process SECONDS BYTES`: standard input is a socket; on it come evaluations and go
outcomes, each as JSON behind four bytes of length. An evaluation may take `SECONDS`, and the process fill `BYTES` of memory,
its own included. It must be quick and must not know settings, the store or the network.
"""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from stepwell.engine.helper_processes import limit_memory, limit_processor, own_channel, receive, send
from stepwell.engine.query.evaluation import Evaluation, Outcome
from stepwell.engine.query.evaluations import carry_out
from stepwell.engine.query.jsonata.evaluation import FULL

TOO_MUCH: Final = Outcome(code="U1001", message="The evaluation ran out of memory", limit=True)


def main(seconds: float, memory: int) -> None:
    """Answer until the engine closes the socket."""
    channel = own_channel()
    decoder = msgspec.json.Decoder(Evaluation)
    # A little less than the engine waits, so that the library's own limit strikes first and the process lives on.
    budget = msgspec.structs.replace(FULL, seconds=0.9 * seconds)
    send(channel, msgspec.json.encode(carry_out(Evaluation('"ready"', "null"), budget)))
    limit_memory(memory)
    while (frame := receive(channel)) is not None:
        limit_processor(seconds)
        try:
            answer = msgspec.json.encode(carry_out(decoder.decode(frame), budget))
        except MemoryError:
            answer = msgspec.json.encode(TOO_MUCH)
        send(channel, answer)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
