"""Requests of varying shapes: as many as are answered, then a share of that, evenly in time."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from ondemand import PredictionClient
from ondemand.client.prediction import Prediction

MODEL = "soak"
WIDTH = 64
ROWS = (1, 1, 1, 1, 2, 3, 8, 1, 1, 40, 1, 5, 1, 17, 1, 128)
"""Rows of one request after the other: batches of every size come of them."""
JSON_EVERY = 5
IN_FLIGHT = 128
TIMEOUT_SECONDS = 30.0
TICK_SECONDS = 0.01


@dataclass
class Load:
    """What was asked, and what came of it."""

    asked: int = 0
    answered: int = 0
    wrong: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    batch_rows: Counter[int] = field(default_factory=Counter)  # by power of two, from 0 up


class Service:
    """Asks *model* with inputs whose shapes vary from request to request."""

    def __init__(self, client: PredictionClient, model: str) -> None:
        self._client = client
        self._model = model
        self._numbers = count()
        self._inputs = {rows: {"x": _rows(rows)} for rows in set(ROWS)}

    async def ask(self, load: Load) -> None:
        """One request, counted in *load*."""
        number = next(self._numbers)
        rows = ROWS[number % len(ROWS)]
        load.asked += 1
        try:
            prediction = await self._client.predict(
                self._model,
                self._inputs[rows],
                timeout=TIMEOUT_SECONDS,
                binary=number % JSON_EVERY != 0,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            load.errors[type(error).__name__] += 1
            return
        load.answered += 1
        load.wrong += not _is_right(prediction, rows)
        load.batch_rows[prediction.timing.batch_rows.bit_length()] += 1

    async def capacity(self, seconds: float) -> float:
        """Requests answered a second while so many are always under way."""
        load, end = Load(), time.monotonic() + seconds

        async def again() -> None:
            while time.monotonic() < end:
                await self.ask(load)

        started = time.monotonic()
        await asyncio.gather(*(again() for _ in range(IN_FLIGHT)))
        assert load.answered == load.asked, load
        return load.answered / (time.monotonic() - started)

    async def steady(self, rate: float, seconds: float) -> Load:
        """Ask at *rate* requests a second, whether answers come or not."""
        load, begun = Load(), 0
        waiting: set[asyncio.Task[None]] = set()
        started = time.monotonic()
        while (now := time.monotonic() - started) < seconds:
            while begun < int(now * rate):
                begun += 1
                task = asyncio.create_task(self.ask(load))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.gather(*waiting)
        return load


def _rows(rows: int) -> np.ndarray:
    return np.linspace(0, 1, rows * WIDTH, dtype=np.float32).reshape(rows, WIDTH)


def _is_right(prediction: Prediction, rows: int) -> bool:
    """Whether the answer has the rows of its request; each row of a softmax adds up to one."""
    y = prediction["y"]
    return len(y) == rows and bool(np.allclose(y.sum(axis=1), 1.0, atol=1e-3))


def batch_table(load: Load) -> Mapping[str, int]:
    """Requests by the rows of the batch that answered them: ``"16 to 31"``."""
    return {
        f"{2 ** (power - 1)} to {2**power - 1}" if power > 1 else f"{power}": requests
        for power, requests in sorted(load.batch_rows.items())
    }
