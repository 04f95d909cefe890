"""Replacing a file as a whole: it has its old content or its new one, whatever happens meanwhile."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_file(place: Path, content: bytes) -> None:
    """Write a file beside the one at `place`, and put it in its place once it is whole. Permissions and links stay. Raises
    OSError, the file then being what it was."""
    place = place.resolve()
    mode = place.stat().st_mode
    if not os.access(place, os.W_OK):
        raise PermissionError(13, "Permission denied", str(place))
    handle, name = tempfile.mkstemp(prefix=f".{place.name[:100]}.", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode & 0o7777)
        Path(name).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
