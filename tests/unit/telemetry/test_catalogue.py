"""The catalogue of events and metrics is closed: what is used is listed, and vice versa."""

import ast
import re
from pathlib import Path

import ondemand
from ondemand.telemetry import events
from ondemand.telemetry.events import METRICS, Event, page

SOURCE = Path(ondemand.__file__).parent
REPOSITORY = SOURCE.parent.parent


def calls_with_events():
    """Every call in the package whose first argument is a member of ``Event``."""
    trees = [ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        first = ast.unparse(call.args[0]) if call.args else ""
        for name in re.findall(r"Event\.([A-Z_]+)", first):
            yield Event[name], call


def test_every_event_is_used_with_the_fields_that_it_lists():
    """An event that nobody writes, or a field that nobody lists, misleads operators."""
    used = {}
    for event, call in calls_with_events():
        fields = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
        spread = any(keyword.arg is None for keyword in call.keywords)
        used.setdefault(event, []).append((fields, spread))

    assert set(Event) - set(used) == set()
    for event, uses in used.items():
        for fields, spread in uses:
            assert spread or fields == set(event.fields), f"{event}: {fields}"


def test_every_metric_is_made():
    """A metric that is listed and never made is a promise that is not kept."""
    source = (SOURCE / "telemetry" / "metrics.py").read_text()
    names = {name for name, value in vars(events).items() if isinstance(value, events.Metric)}

    assert {vars(events)[name].name for name in names} == {metric.name for metric in METRICS}
    assert {name for name in names if f"events.{name})" not in source} == set()


def test_names_carry_their_units():
    """Prometheus' rules: one prefix, base units, counters end in `_total`."""
    for metric in METRICS:
        assert metric.name.startswith("ondemand_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert all(metric.labels.values())


def test_the_page_is_the_catalogue():
    """`make docs` writes it; a catalogue that changed without it fails here."""
    assert (REPOSITORY / "docs" / "telemetry.md").read_text() == page()
