"""Where history chunks are read and written: see `machine.chunks`."""

from stepwell.engine.machine.chunks import AppliedEvent, Chunk, decode, encode

__all__ = ["AppliedEvent", "Chunk", "decode", "encode"]
