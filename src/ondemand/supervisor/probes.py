"""How all processes are, from how each of them is: what the one address of the parent serves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ondemand.supervisor.exposition import merged
from ondemand.supervisor.loop import Supervisor
from ondemand.supervisor.scrape import Answer, ask_all
from ondemand.telemetry.metrics import SupervisorMetrics

LIVE_SECONDS: Final = 30.0
"""How long the parent may take for one turn before it counts as stuck; a turn takes milliseconds,
and there is one each second."""

Ask = Callable[[Mapping[int, str], str], Mapping[int, Answer]]
"""``ask_all``, or what stands in for it: addresses by process, and a path."""


class Probes:
    """Asks the processes of *supervisor*, at the moment that somebody wants to know."""

    def __init__(
        self,
        supervisor: Supervisor,
        metrics: SupervisorMetrics,
        *,
        clock: Callable[[], float],
        ask: Ask = ask_all,
    ) -> None:
        self._supervisor = supervisor
        self._metrics = metrics
        self._clock = clock
        self._ask = ask

    def problems_of_life(self) -> Sequence[str]:
        """Why the whole should be restarted: the parent does not turn, or a process says that it
        is stuck or says nothing. One that has ended is not such a reason: it is started again."""
        silent_seconds = self._clock() - self._supervisor.turned_at
        problems = []
        if silent_seconds > LIVE_SECONDS:
            problems.append(f"the supervisor has not turned for {silent_seconds:.0f} s")
        # Who drains stops serving before it leaves; the supervisor itself sees to it that it does.
        return problems if self._supervisor.stopping else [*problems, *self._of_members("/livez")]

    def problems_of_readiness(self) -> Sequence[str]:
        """Why not all processes answer requests now, and which."""
        problems = []
        for member in self._supervisor.members:
            if (child := member.child) is None:
                problems.append(f"process {member.index}: not running, it is started again soon")
            elif child.address is None:
                problems.append(f"process {member.index}: starting")
        problems += self._of_members("/readyz")
        if self._supervisor.stopping:
            problems.append("draining")
        return problems

    def metrics(self) -> bytes:
        """One page with the samples of all that answer, and whether each is there."""
        answers = self._ask(self._addresses(), "/metrics")
        pages = {process: said.text for process, said in answers.items() if said.status == 200}
        return merged(pages, self._metrics.exposition().decode()).encode()

    def _addresses(self) -> dict[int, str]:
        """Of those that serve their health by now."""
        told = {
            member.index: child.address
            for member in self._supervisor.members
            if (child := member.child) is not None
        }
        return {index: address for index, address in told.items() if address is not None}

    def _of_members(self, path: str) -> list[str]:
        addresses = self._addresses()
        answers = self._ask(addresses, path)
        here = self._addresses()  # who ended meanwhile is nobody that should answer
        problems = []
        for index, address in addresses.items():
            answer = answers.get(index)
            if answer is None and here.get(index) == address:
                problems.append(f"process {index}: does not answer")
            elif answer is None:
                continue
            elif answer.status != 200:
                problems += [f"process {index}: {line}" for line in answer.text.splitlines()]
        return problems
