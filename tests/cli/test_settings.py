"""The table of settings: defaults, refusals that name the variable, and that nothing else reads the environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stepwell.cli.system import SystemClock, SystemSeeds, random_bytes
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.settings import UNLISTED, Settings, all_settings, unknown_settings
from tests.cli.conftest import ROOT

UNUSABLE = {
    "STEPWELL_DATABASE_URL": "mysql://root:hush@db/x",
    "STEPWELL_BROKER_URL": "http://broker",
    "STEPWELL_PORT": "65536",
    "STEPWELL_REGION": "EU West",
    "STEPWELL_ACCOUNT": "12",
    "STEPWELL_URL": "localhost:8083",
    "STEPWELL_FUNCTION_URL": "http://127.0.0.1:9001/functions",
    "STEPWELL_NOTIFY": "maybe",
    "STEPWELL_LEASE_SECONDS": "0.1",
    "STEPWELL_LOG_LEVEL": "loud",
    "STEPWELL_POOL_SIZE": "-1",
}


def test_without_variables_every_setting_has_its_default() -> None:
    assert Settings.load({}) == Settings()
    assert Settings.load({"STEPWELL_PORT": "", "STEPWELL_REGION": "  "}) == Settings()


def test_values_are_read() -> None:
    settings = Settings.load(
        {
            "STEPWELL_PORT": "0",
            "STEPWELL_NOTIFY": "off",
            "STEPWELL_FUNCTION_MODULES": "shop, billing.tasks",
            "STEPWELL_URL": "https://stepwell.example/",
            "STEPWELL_DATA_DIR": "~/data",
        }
    )
    assert (settings.port, settings.notify) == (0, False)
    assert settings.function_modules == ("shop", "billing.tasks")
    assert settings.url == "https://stepwell.example"
    assert settings.data_dir == Path("~/data").expanduser()


@pytest.mark.parametrize("variable", UNUSABLE)
def test_what_cannot_be_meant_is_refused_by_name(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable}") as refused:
        Settings.load({variable: UNUSABLE[variable]})
    assert "hush" not in str(refused.value)


def test_secrets_are_in_no_representation() -> None:
    secrets = {one.metadata["variable"] for one in all_settings() if one.metadata["secret"]}
    assert {"STEPWELL_DATABASE_URL", "STEPWELL_BROKER_URL", "STEPWELL_API_KEY", "STEPWELL_SECRET_KEY"} <= secrets
    settings = Settings(
        database_url="postgresql://u:hush@h/d", api_key="hush", secret_key="hush", function_secret="hush"
    )
    assert "hush" not in repr(settings)


def test_misspelt_variables_are_found() -> None:
    assert unknown_settings({"STEPWELL_PRT": "1", "STEPWELL_PORT": "1", "PATH": "/"}) == ["STEPWELL_PRT"]


def test_every_variable_the_project_names_is_in_the_table() -> None:
    """Including those that workers, which cannot import the table, read by themselves."""
    known = {one.metadata["variable"] for one in all_settings()} | UNLISTED
    files = [file for folder in ("api", "cli", "engine", "workers") for file in (ROOT / folder).rglob("*.py")]
    files += [
        ROOT / "docker-compose.yml",
        ROOT / "Dockerfile",
        *(ROOT / "asl_examples").rglob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    codes = re.compile(r"STEPWELL_(ONLY_RESOURCE|PLACEHOLDER)$")
    unknown = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in re.findall(r"\bSTEPWELL_[A-Z_]*[A-Z]\b", file.read_text())
        if name not in known and not codes.match(name)
    }
    assert not unknown


def test_the_real_clock_and_real_chance() -> None:
    clock = SystemClock()
    assert 1_700_000_000_000 < clock.now_ms() < 4_000_000_000_000
    assert clock.monotonic() <= clock.monotonic()
    seeds = {SystemSeeds().seed() for _ in range(50)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**128 for seed in seeds)
    assert any(seed >= 2**120 for seed in seeds)
    assert len(random_bytes(30)) == 30
