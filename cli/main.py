"""The `stepwell` command's way in. It must not import what a subcommand may not need: not even click.

`stepwell validate FILE...` is what editors and commit hooks run at each save, so it goes past the command group, whose import
alone would take as long as the check. With any option but `--json` it takes the same way as all others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments (the process's own by default) and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["validate"] and plain_files(given[1:]):
        _load_msgspec()
        from stepwell.cli.checking import check

        try:
            code = check([each for each in given[1:] if each != "--json"], "json" if "--json" in given else "text")
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read the findings has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        sys.exit(code)
    from stepwell.cli.group import stepwell

    stepwell.main(given, prog_name="stepwell")


def _load_msgspec() -> None:
    """Import msgspec without typing_extensions, which it takes where there is one, does without where there is none, and
    which would be a fifth of the command's time. What we give msgspec has no annotations that need it."""
    absent: Any = None  # an entry of None is a module that cannot be imported
    known: Any = sys.modules.setdefault("typing_extensions", absent)
    import msgspec  # noqa: F401

    if known is None:
        del sys.modules["typing_extensions"]


def plain_files(arguments: Sequence[str]) -> bool:
    """Whether these are files to check and no options but `--json`."""
    files = [each for each in arguments if each != "--json"]
    return bool(files) and not any(each.startswith("-") and each != "-" for each in files)


if __name__ == "__main__":
    main()
