"""The demo's requests: sent through the client as any service would, and measured."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from itertools import islice
from typing import Any, Final

from rich.console import Console

from ondemand.cli.demo_view import count_bars
from ondemand.cli.demo_work import Measured
from ondemand.cli.demo_workers import DemoWorkers
from ondemand.client import Outcome, PredictionClient
from ondemand.errors import ConfigurationError, DeadlineExceededError, OutcomeUnknownError
from ondemand.settings import ClientSettings, load

SERVICE: Final = "demo"
READY_SECONDS: Final = 60.0
ATTEMPT_SECONDS: Final = 1.0
REPLY_SECONDS: Final = 60.0
"""Longer than the broker takes to give a killed worker's partitions to the next one."""

Inputs = Callable[[], Iterable[dict[str, Any]]]


class Requests:
    """Sends everything, one model after the other. *kill_during*: the model whose worker is killed
    in the middle, and replaced."""

    def __init__(
        self, workers: DemoWorkers, console: Console, *, kill_during: str | None = None
    ) -> None:
        self._workers = workers
        self._console = console
        self._kill_during = kill_during

    async def send(
        self, address: str, inputs: Mapping[str, Inputs], measured: Mapping[str, Measured]
    ) -> None:
        """Wait until each model answers, then ask everything; fills *measured*.

        Raises ``ConfigurationError`` where a worker does not start or ends by itself.
        """
        given = {
            "kafka": address,
            "service": SERVICE,
            "timeout_seconds": REPLY_SECONDS,
            "unserved": "wait",  # the workers are starting
        }
        settings = load(ClientSettings, overrides=given).settings
        async with PredictionClient(settings=settings) as client:
            for model, make in inputs.items():
                await self._until_ready(client, model, make)
            self._console.print("Both answer.")
            for model, make in inputs.items():
                await self._ask(client, model, make, measured[model])

    async def _until_ready(self, client: PredictionClient, model: str, make: Inputs) -> None:
        """Ask for the first of the inputs until there is an answer."""
        (first,) = islice(make(), 1)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await _answers(client, model, first):
                    self._workers.require_running()
        except TimeoutError:
            raise ConfigurationError(
                f"the worker {model} does not answer within {READY_SECONDS:g} s of its start"
            ) from None

    async def _ask(
        self, client: PredictionClient, model: str, make: Inputs, measured: Measured
    ) -> None:
        """Everything for one model, with a bar."""
        clock = asyncio.get_running_loop().time
        outcomes = client.predict_many(model, make(), in_flight=measured.in_flight, ordered=False)
        with count_bars(self._console) as bars:
            bar = bars.add_task(model, total=measured.requests)
            measured.started = clock()
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    measured.first_taken = measured.first_taken or clock()
                    measured.take(outcome)
                    bars.advance(bar)
                    await self._watch(model, outcome, measured)
            measured.ended = clock()

    async def _watch(self, model: str, outcome: Outcome, measured: Measured) -> None:
        """See that the worker lives; in the middle, see that it does not."""
        if outcome.error is not None:
            self._workers.require_running()
        if model == self._kill_during and measured.taken == measured.requests // 2:
            await asyncio.to_thread(self._replace, model)

    def _replace(self, model: str) -> None:
        """Kill the worker as a power cut would, and start another."""
        self._workers.kill(model)
        self._console.print(f"Killed the worker {model} (SIGKILL), and started another.")
        self._workers.start(model)


async def _answers(client: PredictionClient, model: str, inputs: dict[str, Any]) -> bool:
    """Whether *model* answers at once."""
    try:
        await client.predict(model, inputs, timeout=ATTEMPT_SECONDS)
    except (OutcomeUnknownError, DeadlineExceededError):
        return False
    return True
