"""What a project has decided about validation: `[validate]` of a `.stepwell.toml`, or `[tool.stepwell.validate]` of a pyproject.toml.

The nearest such file counts, from the working directory up. It must not import click: see `cli.main`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

OWN_FILE: Final = ".stepwell.toml"
PROJECT_FILE: Final = "pyproject.toml"
TARGETS: Final = ("stepwell", "aws")
TYPES: Final = ("STANDARD", "EXPRESS")


class SettingsError(Exception):
    """A setting that cannot be used; says which and why."""


@dataclass(frozen=True, slots=True)
class ValidateSettings:
    """`ignore` has codes of warnings that are not shown; `strict` lets warnings fail as errors do."""

    target: str = "stepwell"
    type: str = "STANDARD"
    strict: bool = False
    ignore: frozenset[str] = frozenset()

    def overridden(
        self, target: str | None, type: str | None, strict: bool | None, ignore: Iterable[str]
    ) -> ValidateSettings:
        """With what the command line says, which adds codes to ignore and replaces the rest."""
        codes = frozenset(ignore)
        check_codes(codes, "--ignore")
        return replace(
            self,
            target=self.target if target is None else target,
            type=self.type if type is None else type,
            strict=self.strict if strict is None else strict,
            ignore=self.ignore | codes,
        )


def read_settings(folder: Path) -> ValidateSettings:
    """The settings for a folder. Raises `SettingsError`."""
    for place in (folder, *folder.parents):
        own = _table(place / OWN_FILE, ("validate",))
        if own is None:
            own = _table(place / PROJECT_FILE, ("tool", "stepwell", "validate"))
        if own is not None:
            return _settings(*own)
    return ValidateSettings()


def _table(file: Path, keys: tuple[str, ...]) -> tuple[Path, Any] | None:
    """The table of a file; None where there is no such file, or no such table in it."""
    try:
        text = file.read_bytes()
    except OSError:
        return None
    if file.name == PROJECT_FILE and b"stepwell" not in text:
        return None
    import tomllib

    try:
        found: Any = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return None if found is None and file.name == PROJECT_FILE else (file, {} if found is None else found)


def _settings(file: Path, table: Any) -> ValidateSettings:
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: 'validate' must be a table.")
    known: dict[str, tuple[str, ...]] = {"target": TARGETS, "type": TYPES}
    for name, value in table.items():
        if name in known:
            if value not in known[name]:
                raise SettingsError(f"{file}: {name} must be one of {', '.join(known[name])}.")
        elif name == "strict":
            if not isinstance(value, bool):
                raise SettingsError(f"{file}: strict must be true or false.")
        elif name == "ignore":
            if not isinstance(value, list) or not all(isinstance(code, str) for code in value):
                raise SettingsError(f"{file}: ignore must be a list of codes.")
            check_codes(value, f"{file}: ignore")
        else:
            raise SettingsError(
                f"{file}: there is no setting 'validate.{name}'; there are ignore, strict, target and type."
            )
    return ValidateSettings(**{**table, "ignore": frozenset(table.get("ignore", ()))})


def check_codes(codes: Iterable[str], where: str) -> None:
    """Raise `SettingsError` for a code that does not exist, or that no setting can turn off."""
    from stepwell.engine.asl.codes import EXPLANATIONS, IGNORABLE

    for code in codes:
        if code in IGNORABLE:
            continue
        if code in set(EXPLANATIONS):
            raise SettingsError(f"{where}: {code} refuses a definition and cannot be ignored.")
        from difflib import get_close_matches

        near = get_close_matches(code, list(EXPLANATIONS), 1)
        hint = f"; did you mean {near[0]}?" if near else "; see docs/validator.md for those there are."
        raise SettingsError(f"{where}: there is no code '{code[:80]}'{hint}")
