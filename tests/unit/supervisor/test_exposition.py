"""The metrics of several processes as one page."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ondemand.supervisor.exposition import labelled, merged
from ondemand.telemetry.metrics import SupervisorMetrics, WorkerMetrics


def worker_page(*, rows):
    """What a worker that ran one batch serves."""
    metrics = WorkerMetrics()
    metrics.worker(model="digits", version="1.0.0", guarantee="at-least-once")
    metrics.answered({"ok": rows})
    metrics.batch(rows=rows, model_seconds=0.01, queue_seconds=0.002)
    metrics.lag({0: 5, 1: 7})
    return metrics.exposition().decode()


def samples(page):
    """Every sample, as a parser of Prometheus' own reads it; it refuses a family that is split."""
    return [
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("up 1.0", 'up{process="3"} 1.0'),
        ("up{} 1.0", 'up{process="3"} 1.0'),
        ('a_total{status="ok"} 2.0', 'a_total{process="3",status="ok"} 2.0'),
        (r'a{of="x{y=\"z\"} 1"} 2 17', r'a{process="3",of="x{y=\"z\"} 1"} 2 17'),
        ("a:b NaN", 'a:b{process="3"} NaN'),
    ],
)
def test_a_sample_gets_one_label_more(sample, expected):
    """Name, other labels, value and time stay as they are, whatever a label's value holds."""
    assert labelled(sample, 3) == expected


def test_every_sample_of_every_process_is_on_the_page_once():
    """Nothing is lost, summed or changed, and nothing is said twice."""
    pages = {1: worker_page(rows=3), 0: worker_page(rows=2)}
    parent = SupervisorMetrics(2)
    parent.started(0)
    own = parent.exposition().decode()

    page = merged(pages, own)

    expected = samples(own) + [
        (name, tuple(sorted([*labels, ("process", str(process))])), value)
        for process, text in pages.items()
        for name, labels, value in samples(text)
    ]
    assert sorted(samples(page)) == sorted(expected)
    assert len(set(samples(page))) == len(samples(page))


def test_a_family_is_described_once_and_before_its_samples():
    """Prometheus refuses a second TYPE, and a sample apart from its family."""
    page = merged({process: worker_page(rows=process + 1) for process in range(3)}, "")
    about = [line for line in page.splitlines() if line.startswith("#")]
    assert len(about) == len(set(about))

    lines = page.splitlines()
    kind = lines.index("# TYPE ondemand_queue_rows gauge")
    assert lines[kind + 1 : kind + 4] == [
        f'ondemand_queue_rows{{process="{process}"}} 0.0' for process in range(3)
    ]


def test_a_page_of_nobody_is_the_parents_own():
    """While all processes start, the page is there, and says so."""
    own = SupervisorMetrics(2).exposition().decode()
    page = merged({}, own)
    assert samples(page) == samples(own)
    assert 'ondemand_process_up{process="1"} 0.0' in page
