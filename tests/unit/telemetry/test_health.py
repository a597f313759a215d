"""Probes and metrics over HTTP."""

import urllib.error
import urllib.request

import pytest

from ondemand.errors import ConfigurationError
from ondemand.telemetry.health import HealthServer
from ondemand.telemetry.metrics import WorkerMetrics


def get(address, path):
    """Status and body of one request."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def problems():
    """What is wrong now."""
    return []


@pytest.fixture
def metrics():
    """What is counted."""
    return WorkerMetrics()


@pytest.fixture
def server(problems, metrics):
    """A server on a free port."""
    made = HealthServer(
        "127.0.0.1:0", live=list, ready=lambda: list(problems), metrics=metrics.exposition
    )
    yield made
    made.close()


def test_probes_say_what_is_wrong(server, problems):
    """An operator who looks at a red probe reads why it is red."""
    assert get(server.address, "/readyz") == (200, "ok\n")

    problems.append("no partitions assigned yet")

    assert get(server.address, "/readyz") == (503, "no partitions assigned yet\n")
    assert get(server.address, "/livez") == (200, "ok\n")
    assert get(server.address, "/admin")[0] == 404


def test_metrics_are_what_was_counted(server, metrics):
    """Counts by status; partitions that went leave no stale lag behind."""
    metrics.answered({"ok": 2, "too-large": 1})
    metrics.lag({0: 5, 1: 7})
    metrics.lag({1: 8})
    metrics.holds(partitions=3, queue_rows=0, queue_bytes=0, unsettled=0, paused=0)
    code, text = get(server.address, "/metrics")

    assert code == 200
    assert 'ondemand_requests_total{status="ok"} 2.0' in text
    assert 'ondemand_lag_records{partition="1"} 8.0' in text
    assert 'partition="0"' not in text
    assert "ondemand_assigned_partitions 3.0" in text, "those of unknown lag count, too"


def test_a_port_that_is_taken_says_what_to_do(server):
    """Two workers on one computer: the second one is told how to choose another port."""
    with pytest.raises(ConfigurationError, match=r"--http 127\.0\.0\.1:0"):
        HealthServer(server.address, live=list, ready=list, metrics=bytes)
