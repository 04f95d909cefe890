"""Which tests there are: test files and MockConfigFiles among files, folders and globs; run here or by several processes."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.testing.definitions import SUFFIXES, definition_beside
from stepwell.cli.testing.running import CaseResult, SuiteResult, collected, run_case, run_suite, selected
from stepwell.cli.testing.suites import Suite, UnusableTestError, config_suite, definition_name, read_config, read_suite
from stepwell.engine.asl.diagnostics import DefinitionError

TEST_SUFFIXES: Final = (".asl.test.json", ".asl.test.yaml", ".asl.test.yml")
MOCK_CONFIG: Final = "MockConfigFile.json"
SKIPPED_FOLDERS: Final = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
CASES_WORTH_PROCESSES: Final = 6000
"""Below that, starting a second process takes longer than the cases do."""


class Target(NamedTuple):
    """A suite to be read: a test file, or a definition and the MockConfigFile with its cases."""

    file: Path
    mock_config: Path | None = None
    is_definition: bool = False
    input: bytes = b"{}"
    """Of cases that have none."""

    def read(self) -> Suite:
        """Raises `UnusableTestError` and `DefinitionError`."""
        if self.is_definition:
            assert self.mock_config is not None
            return config_suite(self.file, self.mock_config, self.input)
        return read_suite(self.file, self.mock_config, self.input)


def is_test_file(file: Path) -> bool:
    """Whether it is one by its name."""
    return file.name.lower().endswith(TEST_SUFFIXES) or (
        ".test." in file.name and file.suffix in (".json", ".yaml", ".yml")
    )


def find_targets(paths: Sequence[str], mock_config: Path | None = None, input: bytes = b"{}") -> list[Target]:
    """The suites that paths lead to, in order, each once; `input` is for cases that have none. Raises `Failure` for a path that leads
    to none."""
    found: dict[Path, Target] = {}
    for given in paths or (".",):
        places = [Path(given)]
        if not places[0].exists() and glob.has_magic(given):
            places = [Path(one) for one in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207 -- ** as in a shell
        targets = [target for place in places for target in _of(place, mock_config)]
        if not targets and not any(place.exists() for place in places):
            raise Failure(f"{given} leads to no file.", ExitCode.UNUSABLE, code="NoFile")
        if not targets:
            raise Failure(
                f"{given}: there are no tests. A test file is named as its definition, order.asl.test.json for "
                f"order.asl.json; or give the mocks of a definition with --mock-config.",
                ExitCode.UNUSABLE,
                code="NoTests",
            )
        for target in targets:
            found.setdefault(target.file.resolve(), target._replace(input=input))
    return list(found.values())


def _of(place: Path, mock_config: Path | None) -> Iterator[Target]:
    if place.is_dir():
        yield from _in_folder(place, mock_config)
    elif is_test_file(place):
        yield Target(place, mock_config)
    elif place.name.startswith("MockConfigFile") and place.suffix == ".json":
        yield from _of_config(place, set())
    else:
        yield from _of_definition(place, mock_config)


def _of_definition(definition: Path, mock_config: Path | None) -> Iterator[Target]:
    base = definition.stem if definition.suffix in SUFFIXES else definition.name
    for suffix in SUFFIXES:
        beside = definition.with_name(f"{base}.test{suffix}")
        if beside.is_file():
            yield Target(beside, mock_config)
            return
    config = mock_config or definition.with_name(MOCK_CONFIG)
    if config.is_file() or mock_config is not None:
        yield Target(definition, config, is_definition=True)


def _in_folder(folder: Path, mock_config: Path | None) -> Iterator[Target]:
    configs: list[Path] = []
    definitions: set[Path] = set()
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in SKIPPED_FOLDERS)
        for name in sorted(files):
            file = Path(parent) / name
            if name.lower().endswith(TEST_SUFFIXES):
                definitions.add(definition_beside(file))
                yield Target(file, mock_config)
            elif name == MOCK_CONFIG:
                configs.append(file)
    for config in [mock_config] if mock_config is not None else configs:
        yield from _of_config(config, definitions, folder if mock_config is not None else None)


def _of_config(config: Path, covered: set[Path], folder: Path | None = None) -> Iterator[Target]:
    """The definitions beside a MockConfigFile (or in a folder) that it has cases for and that have no test file."""
    try:
        names = set(read_config(config).machines)
    except UnusableTestError:
        yield Target(config, config, is_definition=True)  # reading it again tells why
        return
    place = folder or config.parent
    files = place.rglob("*.asl.*") if folder is not None else place.glob("*.asl.*")
    for file in sorted(files):
        is_definition = file.name.endswith(tuple(f".asl{suffix}" for suffix in SUFFIXES))
        if is_definition and file not in covered and definition_name(file) in names:
            yield Target(file, config, is_definition=True)


def run_targets(
    targets: Sequence[Target],
    patterns: Sequence[str] = (),
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    jobs: int = 0,
    first_failure: bool = False,
    on_suite: Callable[[SuiteResult], None] = lambda suite: None,
) -> list[SuiteResult]:
    """Run the suites in order; `on_suite` is told of each. `jobs` processes, 0: as many as pay; one, where the first failure is
    to be the end."""
    suites = [_read(target) for target in targets]
    count = sum(len(selected(suite, patterns)) for suite in suites if isinstance(suite, Suite))
    if jobs == 0:
        jobs = min(os.cpu_count() or 1, 8) if count >= CASES_WORTH_PROCESSES and not functions else 1
    results = []
    if jobs > 1 and not functions and not first_failure:
        for result in _run_apart(targets, suites, patterns, jobs):
            on_suite(result)
            results.append(result)
        return results
    for suite in suites:
        result = (
            suite
            if isinstance(suite, SuiteResult)
            else run_suite(suite, patterns, functions, first_failure=first_failure)
        )
        on_suite(result)
        results.append(result)
        if first_failure and (result.failed or result.error):
            break
    return results


def _read(target: Target) -> Suite | SuiteResult:
    try:
        return target.read()
    except UnusableTestError as error:
        return SuiteResult(str(target.file), "", str(target.file), error=str(error))
    except DefinitionError as error:
        return SuiteResult(
            str(target.file), "", str(target.file),
            error=f"{target.file}: its definition is invalid; stepwell validate shows where:\n{error}",
        )  # fmt: skip


def _run_apart(
    targets: Sequence[Target], suites: Sequence[Suite | SuiteResult], patterns: Sequence[str], jobs: int
) -> Iterator[SuiteResult]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = [
            [pool.submit(run_share, target, patterns, share, jobs) for share in range(jobs)]
            if isinstance(suite, Suite)
            else []
            for target, suite in zip(targets, suites, strict=True)
        ]
        for suite, shares in zip(suites, running, strict=True):
            if isinstance(suite, SuiteResult):
                yield suite
                continue
            cases = selected(suite, patterns)
            results: list[CaseResult | None] = [None] * len(cases)
            for share, future in enumerate(shares):
                results[share::jobs] = future.result()
            done = [one for one in results if one is not None]
            assert len(done) == len(cases)
            yield collected(suite, done, whole=len(cases) == len(suite.cases))


def run_share(target: Target, patterns: Sequence[str], share: int, jobs: int) -> list[CaseResult]:
    """Every so many-th case of a suite, in a process of its own."""
    suite = target.read()
    return [run_case(suite, case, {}) for case in selected(suite, patterns)[share::jobs]]
