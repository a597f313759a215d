"""``docker-compose.yml`` says the same as the code: names, ports, variables, limits.

It is parsed and compared here; running it needs a container engine.
"""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from ondemand.runtime.manifest import read_manifest
from ondemand.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
TOPICS = tomllib.loads((ROOT / "broker" / "topics.toml").read_text(encoding="utf-8"))
WORKERS = sorted(path.parent.name for path in (ROOT / "workers").glob("*/worker.toml"))
DEFAULTS = WorkerSettings()


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_there_is_one_service_for_each_worker_beside_broker_and_topics():
    """A new worker folder needs its service and its topics."""
    assert sorted(SERVICES) == sorted([*WORKERS, "kafka", "topics"])
    assert sorted(TOPICS["models"]) == WORKERS


@pytest.mark.parametrize("name", WORKERS)
def test_a_workers_image_carries_its_version_and_is_built_from_its_folder(name):
    """The tag is the version that replies state."""
    manifest = read_manifest(ROOT / "workers" / name)
    service = SERVICES[name]
    assert manifest.name == name
    assert service["image"] == f"ondemand-{name}:{manifest.version}"
    assert service["build"] == {"context": ".", "dockerfile": f"workers/{name}/Dockerfile"}


@pytest.mark.parametrize("name", [*WORKERS, "topics"])
def test_every_variable_is_a_setting(name):
    """A misspelt variable would be refused at the start."""
    for variable, value in SERVICES[name]["environment"].items():
        field = variable.removeprefix("ONDEMAND_").lower()
        assert variable.startswith("ONDEMAND_")
        assert WorkerSettings.model_validate({field: value})


@pytest.mark.parametrize("name", WORKERS)
def test_health_and_metrics_are_published_to_this_computer_only(name):
    """The port inside is the settings' default; a range outside lets workers be scaled."""
    service = SERVICES[name]
    port = port_of(DEFAULTS.http)
    assert service["environment"]["ONDEMAND_HTTP"] == f"0.0.0.0:{port}"
    (published,) = service["ports"]
    assert re.fullmatch(rf"127\.0\.0\.1:\d+-\d+:{port}", published)
    assert f"127.0.0.1:{port}/livez" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_has_time_to_drain(name):
    """Killed earlier, it would leave what it was running to be repeated."""
    grace = SERVICES[name]["stop_grace_period"]
    manifest = read_manifest(ROOT / "workers" / name)
    assert float(grace.removesuffix("s")) > manifest.worker_settings.drain_timeout_seconds


@pytest.mark.parametrize("name", [*WORKERS, "topics"])
def test_our_containers_can_do_no_more_than_they_need(name):
    """No writing but to /tmp, no capabilities, no new privileges, a bound on processes."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - what is checked is that there is no more
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0


def test_the_broker_is_reached_where_the_settings_look():
    """From this computer at the default address, from other containers by its name."""
    kafka = SERVICES["kafka"]
    advertised = kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"OUTSIDE://{DEFAULTS.kafka}" in advertised
    inside = {SERVICES[name]["environment"]["ONDEMAND_KAFKA"] for name in (*WORKERS, "topics")}
    assert [f"INSIDE://{address}" for address in inside] == [advertised[0]]
    assert kafka["ports"] == [f"127.0.0.1:{port_of(DEFAULTS.kafka)}:{port_of(DEFAULTS.kafka)}"]


def test_the_broker_is_of_the_release_line_that_the_tests_run():
    """Major and minor version are the tested ones, and no topic is made by accident."""
    kafka = SERVICES["kafka"]
    jars = (ROOT / "src" / "ondemand" / "local" / "jars.toml").read_text(encoding="utf-8")
    tested = re.search(r"kafka_2\.13:(\d+\.\d+)\.", jars)
    assert re.fullmatch(rf"apache/kafka:{re.escape(tested[1])}\.\d+", kafka["image"])
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert TOPICS["replication_factor"] == 1


def test_topics_come_after_the_broker_and_before_the_workers():
    """A worker whose topic is not there refuses to start."""
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES["topics"]["command"][:3] == ["topics", "apply", "--yes"]
    for name in WORKERS:
        condition = {"topics": {"condition": "service_completed_successfully"}}
        assert SERVICES[name]["depends_on"] == condition
