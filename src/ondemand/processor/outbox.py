"""Answers on their way out: handed to the delivery, counted, reported."""

from collections.abc import Sequence

from ondemand.processor.delivery import Consignment, Delivery, Tracks
from ondemand.processor.encode import Answer
from ondemand.processor.report import Reporter


class Outbox:
    """Sends answers. For any thread; the count may lag behind by those that another one sends."""

    def __init__(self, delivery: Delivery, reporter: Reporter) -> None:
        self._delivery = delivery
        self._reporter = reporter
        self.answered = 0

    def open(self) -> Tracks:
        """Answers will be made: the tracks of their records, for ``send``."""
        return self._delivery.open()

    def send(self, answers: Sequence[Answer], tracks: Tracks) -> None:
        """Publish *answers*, and do not wait."""
        self._delivery.send(Consignment(answers, tracks))
        self.answered += len(answers)
        self._reporter.answered(answers)
