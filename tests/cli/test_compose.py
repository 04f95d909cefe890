"""The compose file: it names what exists, and its processes with its environment make a cluster that works."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stepwell.engine.settings import Settings, all_settings
from tests.cli.conftest import COMMAND, ROOT, clean_environment, command, machine
from tests.fixtures.processes import StartProcess

SERVICES = ("postgres", "redis", "upgrade", "api", "engine-1", "engine-2", "worker")
SECRET_KEY = "c3RlcHdlbGwtdGVzdC1rZXktb2YtMzItYnl0ZXMtISE="


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text()
    filled = re.sub(r"\$\{(\w+):\?[^}]*\}", SECRET_KEY, text)
    filled = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", filled)
    found: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load(filled)))
    return found


def test_the_services_are_there_and_nothing_secret_is(compose: dict[str, Any]) -> None:
    assert tuple(compose["services"]) == SERVICES
    assert "SECRET_KEY:?" in (ROOT / "docker-compose.yml").read_text()
    assert compose["services"]["api"]["ports"] == ["127.0.0.1:8083:8083"]


def test_every_variable_is_a_setting_and_every_value_is_usable(compose: dict[str, Any]) -> None:
    known = {one.metadata["variable"] for one in all_settings()}
    for name in ("upgrade", "api", "engine-1", "engine-2", "worker"):
        environment = compose["services"][name]["environment"]
        assert set(environment) <= known, name
        settings = Settings.load({key: str(value) for key, value in environment.items()})
        assert settings.database_url is not None
        assert settings.secret_key == SECRET_KEY


def test_whatever_is_depended_on_exists_and_is_checked(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, (name, other)
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], other
    assert {"postgres", "redis", "api", "engine-1", "engine-2"} == {
        name for name, one in services.items() if "healthcheck" in one
    }


def test_the_image_has_what_the_services_call() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["stepwell"]' in text
    assert "requirements/run.txt" in text
    assert "USER stepwell" in text


@pytest.mark.slow
def test_its_processes_run_executions_and_survive_the_loss_of_an_engine(
    compose: dict[str, Any], durable_database: str, valkey: str, start_process: StartProcess, tmp_path: Path
) -> None:
    """The same commands with the same environment, but for addresses that only exist within compose."""
    (tmp_path / "shop.py").write_text(
        "from stepwell.workers.app import app\n\n\n@app.task(name='shop.double')\ndef double(number):\n    return 2 * number\n"
    )

    def environment(service: str, **more: str) -> dict[str, str]:
        given = {name: str(value) for name, value in compose["services"][service]["environment"].items()}
        given |= {
            "STEPWELL_DATABASE_URL": durable_database,
            "STEPWELL_BROKER_URL": valkey,
            "STEPWELL_DATA_DIR": str(tmp_path / "data"),
            "STEPWELL_LEASE_SECONDS": "2",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        }
        return clean_environment(**{**given, **more})

    def service(name: str, **more: str) -> Any:
        return start_process(
            [*COMMAND, *compose["services"][name]["command"]], environment=environment(name, **more), directory=tmp_path
        )

    upgrade = service("upgrade")
    assert upgrade.wait() == 0, upgrade.output
    local = {"STEPWELL_HOST": "127.0.0.1", "STEPWELL_LISTEN_HOST": "127.0.0.1"}
    engines = [service(name, **local, STEPWELL_HEALTH_PORT=free_port()) for name in ("engine-1", "engine-2")]
    for engine in engines:
        assert command("doctor", "--url", engine.ready_url()).returncode == 0
    api = service("api", **local, STEPWELL_PORT="0")
    url = api.ready_url()
    service("worker", STEPWELL_URL=url, STEPWELL_CELERY_APP="shop:app")

    def run(*arguments: str | Path) -> Any:
        ran = command(*arguments, "--json", STEPWELL_URL=url)
        assert ran.returncode == 0, (ran.stdout, ran.stderr, api.output)
        return json.loads(ran.stdout)

    assert command("doctor", "--url", url).returncode == 0
    definition = machine(
        "W",
        W={"Type": "Wait", "Seconds": 1, "Next": "D"},
        D={"Type": "Task", "Resource": "celery:shop.double", "End": True},
    )
    file = tmp_path / "waits.asl.json"
    file.write_text(json.dumps(definition))
    run("deploy", file)
    assert run("start", "waits", "-i", "21", "--wait")["output"] == 42

    started = [run("start", "waits", "-i", str(number))["id"] for number in range(8)]
    engines[0].send(signal.SIGKILL)
    for number, id in enumerate(started):
        view = run("status", id, "--wait=60")
        assert (view["status"], view["output"]) == ("SUCCEEDED", 2 * number)
    assert '"level":"ERROR"' not in api.output + engines[1].output
    checked = command("db", "check", "--json", STEPWELL_DATABASE_URL=durable_database)
    assert (checked.returncode, json.loads(checked.stdout)["ok"]) == (0, True), checked.stdout


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
