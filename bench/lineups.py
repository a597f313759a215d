"""Who is compared in which scenario: every variant, or for a first look each system once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from systems import System, aiokafka_loop, echo, kafka_streams, mlserver, ours
from workload import Form

Makers = Sequence[Callable[[], System]]
"""Each makes one system, or raises ``NotRunError``."""

EXACTLY_ONCE, EXACTLY_ONCE_V2 = "exactly-once", "exactly_once_v2"


def drained() -> Makers:
    """Every variant; what `exactly_once_v2` costs Kafka Streams is seen with small requests."""
    makers: list[Callable[[], System]] = []
    for form in Form:
        makers += [
            lambda form=form: echo(form),
            lambda form=form: ours(form),
            lambda form=form: ours(form, EXACTLY_ONCE),
            lambda form=form: ours(form, processes=2),
            lambda form=form: kafka_streams(form),
            lambda form=form: kafka_streams(form, threads=2),
            lambda form=form: aiokafka_loop(form),
        ]
    return [
        *makers,
        lambda: kafka_streams(Form.BINARY, EXACTLY_ONCE_V2),
        lambda: kafka_streams(Form.BINARY, EXACTLY_ONCE_V2, threads=2),
        mlserver,
    ]


def drained_quick() -> Makers:
    """Each system once, and whatever a target is about."""
    return [
        lambda: echo(Form.BINARY),
        lambda: ours(Form.BINARY),
        lambda: ours(Form.BINARY, EXACTLY_ONCE),
        lambda: ours(Form.BINARY, processes=2),
        lambda: kafka_streams(Form.BINARY),
        lambda: kafka_streams(Form.BINARY, EXACTLY_ONCE_V2),
        lambda: aiokafka_loop(Form.BINARY),
        lambda: ours(Form.JSON),
        lambda: kafka_streams(Form.JSON),
        mlserver,
    ]


def drained_beside(other: Path) -> Makers:
    """The workers of two checkouts."""
    source = {"PYTHONPATH": str((other / "src").resolve())}
    return [
        lambda: echo(Form.BINARY),
        *(
            lambda form=form, beside=beside: replace(
                ours(form), name=f"ours, {beside}", environment=source if beside == "other" else {}
            )
            for form in Form
            for beside in ("other", "this")
        ),
    ]


def at_rates() -> Makers:
    """Round trips: everybody who does not wait for batches to fill."""
    return [
        lambda: echo(Form.BINARY),
        lambda: ours(Form.BINARY),
        lambda: ours(Form.BINARY, EXACTLY_ONCE),
        lambda: kafka_streams(Form.BINARY, linger_ms=0),
        lambda: aiokafka_loop(Form.BINARY),
        mlserver,
    ]


def at_rates_quick() -> Makers:
    """What a target is about."""
    return at_rates()[:3]


def on_the_curve() -> Makers:
    """Who can follow for long enough to be drawn."""
    return [
        lambda: echo(Form.BINARY),
        lambda: ours(Form.BINARY),
        lambda: kafka_streams(Form.BINARY, linger_ms=0),
        lambda: aiokafka_loop(Form.BINARY),
    ]


def on_the_curve_quick() -> Makers:
    """Ours and its ceiling."""
    return on_the_curve()[:2]


def scaled_out() -> Makers:
    """Groups that a second process joins under load."""
    return [lambda: ours(Form.BINARY), lambda: kafka_streams(Form.BINARY, linger_ms=0)]


def scaled_out_quick() -> Makers:
    """Ours."""
    return scaled_out()[:1]
