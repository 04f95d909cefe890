"""How secrets are kept: sealed with AES-256-GCM under keys that can be rotated, and blotted out of what people may read.

Sealed text says which key made it, so new secrets use the first key while older ones still open. It must not know what the
secrets are for: the caller's `context` (say `connection/billing`) is bound to each, and one never opens under another's name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from stepwell.engine.errors import ConfigurationError
from stepwell.engine.jsontypes import Json

KEY_BYTES: Final = 32
KEY_SETTING: Final = "STEPWELL_SECRET_KEY"
KEY_FILE: Final = "secret.key"

_VERSION: Final = b"\x01"
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEADER_BYTES: Final = len(_VERSION) + _ID_BYTES + _NONCE_BYTES
_HOW_TO_MAKE_ONE: Final = "Make one with `openssl rand -base64 32`."


def _key_id(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_ID_BYTES, person=b"stepwell key id").digest()


class SecretBox:
    """Seals and opens secrets. The first key seals; all of them open.

    Sealed: one version byte, four bytes that name the key, a nonce of twelve, then ciphertext and tag.
    """

    def __init__(self, key: bytes, *older: bytes) -> None:
        for each in (key, *older):
            if len(each) != KEY_BYTES:
                raise ConfigurationError(
                    f"A secret key has {len(each)} bytes; it must have {KEY_BYTES}. {_HOW_TO_MAKE_ONE}"
                )
        self._id = _key_id(key)
        self._keys = {_key_id(each): each for each in (*older, key)}

    def encrypt(self, secret: bytes, context: str) -> bytes:
        """Seal a secret; the same `context` must be given to open it."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        header = _VERSION + self._id + nonce
        return header + AESGCM(self._keys[self._id]).encrypt(nonce, secret, _bound(header, context))

    def decrypt(self, sealed: bytes, context: str) -> bytes:
        """Open a sealed secret. Raises `ConfigurationError` where no key opens it: lost, changed, or sealed for another context."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        header, body = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        if len(header) < _HEADER_BYTES or header[:1] != _VERSION:
            raise ConfigurationError(f"The stored secret of {context} is not one this version of Stepwell can read.")
        key = self._keys.get(header[1 : 1 + _ID_BYTES])
        if key is None:
            raise ConfigurationError(
                f"The stored secret of {context} was sealed with a key that is not configured. "
                f"Add the key it was sealed with to {KEY_SETTING} (after the new one, separated by a comma), or store the secret anew."
            )
        try:
            return AESGCM(key).decrypt(header[1 + _ID_BYTES :], body, _bound(header, context))
        except InvalidTag:
            raise ConfigurationError(
                f"The stored secret of {context} has been changed, or was stored under another name. Store it anew."
            ) from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the newest key sealed this; if not, sealing it anew lets the older key go."""
        return sealed[:1] == _VERSION and sealed[1 : 1 + _ID_BYTES] == self._id

    def __repr__(self) -> str:
        return f"SecretBox({len(self._keys)} keys, sealing with {self._id.hex()})"


def _bound(header: bytes, context: str) -> bytes:
    return header + context.encode()


def load_box(keys: str | None, data_directory: Path | None) -> SecretBox:
    """The box of this installation: the keys of the setting `STEPWELL_SECRET_KEY`, else of `secret.key` in the data directory.

    The setting holds base64 keys, newest first, separated by commas. The file is made at the first use, readable by its
    owner alone; several hosts on one database must share the setting instead.
    """
    return SecretBox(*load_keys(keys, data_directory))


def load_keys(keys: str | None, data_directory: Path | None) -> tuple[bytes, *tuple[bytes, ...]]:
    """The keys of this installation, the sealing one first; see `load_box`."""
    if keys is not None and keys.strip():
        return _parse_keys(keys, f"the setting {KEY_SETTING}")
    if data_directory is None:
        raise ConfigurationError(f"There is no key to keep secrets with. Set {KEY_SETTING}. {_HOW_TO_MAKE_ONE}")
    file = data_directory / KEY_FILE
    try:
        if not file.exists():
            _make_key_file(file)
        if file.stat().st_mode & 0o077:
            raise ConfigurationError(f"Other users may read the key file {file}. Run `chmod 600 {file}`.")
        return _parse_keys(file.read_text(), str(file))
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"The key file {file} cannot be used: {error}.") from None


def _parse_keys(text: str, place: str) -> tuple[bytes, *tuple[bytes, ...]]:
    keys = []
    for part in re.split(r"[,\s]+", text.strip()):
        try:
            key = base64.b64decode(part, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise ConfigurationError(
                f"A key in {place} is not the base64 text of {KEY_BYTES} bytes. {_HOW_TO_MAKE_ONE} "
                "Several keys are separated by commas, the newest first."
            )
        keys.append(key)
    return keys[0], *keys[1:]


def _make_key_file(file: Path) -> None:
    """Write a new key beside `file` and link it there: of two processes that start at once, one key wins for both."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f"{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            return
    finally:
        draft.unlink()


BLOT: Final = "********"
_SHORTEST_BLOTTED: Final = 6
"""Shorter secrets are not searched for: they would blot ordinary text (and are no secrets)."""


class Redactor:
    """Blots given secrets out of text and JSON values, before they reach history, causes or logs."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = sorted({text for text in secrets if len(text) >= _SHORTEST_BLOTTED}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found))) if found else None

    def text(self, text: str) -> str:
        """The text with each secret replaced by asterisks."""
        return self._pattern.sub(BLOT, text) if self._pattern else text

    def json(self, value: Json) -> Json:
        """The value with secrets replaced in all its strings, member names included. The same object if it holds none."""
        return value if self._pattern is None else self._blot(value)

    def _blot(self, value: Json) -> Json:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self._blot(member) for name, member in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._blot(member) for member in value]
        return value
