"""What is to be sent to one partition: gathered while a batch is under way, then one batch."""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiokafka import errors
from aiokafka.producer.message_accumulator import BatchBuilder

from ondemand.contract.record import OutgoingRecord
from ondemand.transport.base import OnSent


@dataclass(slots=True, eq=False)
class Attempt:
    """One record on its way. *on_sent*: None once it is told. *open*: whether the broker may have
    stored it. *alone*: it does not travel with others any more."""

    record: OutgoingRecord
    on_sent: OnSent | None
    until: float
    open: bool = False
    alone: bool = False
    count: int = 0


@dataclass(slots=True, eq=False)
class Batch:
    """Records that travel together. *unfit*: those that cannot travel at all, each with why.
    *over*: when the next batch may follow."""

    lane: "Lane"
    builder: BatchBuilder
    attempts: list[Attempt] = field(default_factory=list)
    unfit: list[tuple[Attempt, Exception]] = field(default_factory=list)
    is_open: bool = False
    over: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def leave(self) -> None:
        """The next batch may follow: this one is settled, or left behind with its producer."""
        if not self.over.done():
            self.over.set_result(None)

    def add(self, attempt: Attempt) -> bool:
        """Whether there was room for *attempt*."""
        if self.attempts and (attempt.alone or self.attempts[0].alone):
            return False
        record = attempt.record
        try:
            added = self.builder.append(
                key=record.key, value=record.value, timestamp=None, headers=list(record.headers)
            )
        except (TypeError, ValueError) as error:  # what no record can hold
            self.unfit.append((attempt, error))
            return True
        if added is None:
            return False
        self.attempts.append(attempt)
        return True

    def open(self) -> None:
        """From now on the broker may have stored it."""
        self.is_open = True
        for attempt in self.attempts:
            attempt.open = True

    def untold(self) -> Iterator[Attempt]:
        """Those that somebody still wants to hear of."""
        return (attempt for attempt in self.attempts if attempt.on_sent is not None)


@dataclass(slots=True, eq=False)
class Lane:
    """One partition's records, in their order, and the task that sends them."""

    topic: str
    partition: int
    waiting: deque[Attempt] = field(default_factory=deque)
    driver: asyncio.Task[None] | None = None

    def take(self) -> list[Attempt]:
        """All that waits."""
        taken = list(self.waiting)
        self.waiting.clear()
        return taken

    def load(self, builder: BatchBuilder, record_bytes_max: int) -> Batch:
        """As many of those that wait as *builder* holds."""
        batch = Batch(self, builder)
        while self.waiting:
            attempt = self.waiting.popleft()
            if attempt.on_sent is not None and not batch.add(attempt):
                self.waiting.appendleft(attempt)
                break
        # A batch takes a first record of any size.
        if len(batch.attempts) == 1 and builder.size() > record_bytes_max:
            said = f"{builder.size():,} bytes are more than the {record_bytes_max:,} of a request"
            batch.unfit.append((batch.attempts.pop(), errors.MessageSizeTooLargeError(said)))
        return batch
