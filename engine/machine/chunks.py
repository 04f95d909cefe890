"""History chunks: what one commit adds to one execution, as one compressed value.

A chunk holds the new history events, the change of position (`Delta`) and, so that replay is exact, each event that was
applied with the time and the entropy seed it was given. It must not know SQL.
"""

from __future__ import annotations

from typing import Final

import msgspec
import zstandard

from stepwell.engine.machine.events import Event
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.snapshot import Delta
from stepwell.engine.query.jsonata import Known

CHUNK_VERSION: Final = 1


class AppliedEvent(msgspec.Struct, array_like=True, frozen=True):
    """One call of `transition`: the event, `now` in milliseconds, the seed, the id of the first history event it made, the outcomes
    of expressions carried out elsewhere that were known to it, and the events of its slice (0: those of the default slice)."""

    event: Event
    now: int
    seed: int
    first_event: int
    outcomes: list[Known] = []
    slice: int = 0


class Chunk(msgspec.Struct, array_like=True):
    """What one commit adds to one execution; `events` are numbered from `first_event` on."""

    first_event: int
    events: list[HistoryEvent]
    delta: Delta | None
    applied: list[AppliedEvent]
    engine: str = "0.1.0"
    version: int = CHUNK_VERSION


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Chunk)
_compressor: Final = zstandard.ZstdCompressor(level=1, write_checksum=False, write_content_size=True)
_decompressor: Final = zstandard.ZstdDecompressor()
MAX_CHUNK_BYTES: Final = 256 * 1024 * 1024


def encode(chunk: Chunk) -> bytes:
    """The bytes kept in `history_chunk.data`."""
    return _compressor.compress(_encoder.encode(chunk))


def decode(data: bytes) -> Chunk:
    """Read a chunk back."""
    return _decoder.decode(_decompressor.decompress(data, max_output_size=MAX_CHUNK_BYTES))


class ChunkEvents(msgspec.Struct, array_like=True):
    """The history events of a chunk, each still as text: a reader decodes those it shows, and nothing else of the chunk."""

    first_event: int
    texts: list[msgspec.Raw]

    def event(self, id: int) -> HistoryEvent | None:
        """The event with this id; None if it is in another chunk."""
        index = id - self.first_event
        return _event_decoder.decode(self.texts[index]) if 0 <= index < len(self.texts) else None


_events_decoder: Final = msgspec.json.Decoder(ChunkEvents)
_event_decoder: Final = msgspec.json.Decoder(HistoryEvent)


def decode_events(data: bytes) -> ChunkEvents:
    """Read the events of a chunk."""
    return _events_decoder.decode(_decompressor.decompress(data, max_output_size=MAX_CHUNK_BYTES))
