"""How long things took: answers, and the system after each blow. Pure."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

from chaos.evidence import Done, Evidence
from chaos.load import STATUS
from chaos.plan import Act


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of *count* times, in milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> "Distribution | None":
        """None where there are no times."""
        if not times_ms:
            return None
        cuts = quantiles(times_ms, n=100, method="inclusive") if len(times_ms) > 1 else None
        at = (lambda percent: times_ms[0]) if cuts is None else (lambda percent: cuts[percent - 1])
        return cls(len(times_ms), at(50), at(90), at(99), max(times_ms))


def delays(evidence: Evidence) -> Distribution | None:
    """From a request's append to its first reply's."""
    return Distribution.of([answer - asked for _, asked, answer in _answered(evidence)])


def recoveries(evidence: Evidence) -> Mapping[Act, Distribution]:
    """From each blow until every partition has answered a request that came after it.

    Blows overlap: what another one adds meanwhile is counted. Left out are blows after which no
    request came to some partition.
    """
    lanes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for partition, asked_ms, answered_ms in _answered(evidence):
        lanes[partition].append((asked_ms, answered_ms))
    answering = [_Lane(lane) for lane in lanes.values()]
    times: dict[Act, list[float]] = defaultdict(list)
    for done in evidence.done:
        if done.act is Act.VISIT:
            continue
        ends = [lane.first_answer_after(done.time_ms) for lane in answering]
        if ends and None not in ends:
            times[done.act].append(max(end for end in ends if end is not None) - done.time_ms)
    found = {act: Distribution.of(times[act]) for act in Act if act in times}
    return {act: each for act, each in found.items() if each is not None}


class _Lane:
    """One partition's requests by the time they came, with the first answer from each one on."""

    def __init__(self, lane: list[tuple[int, int]]) -> None:
        lane.sort()
        self._asked = [asked for asked, _ in lane]
        self._first: list[int] = []
        for _, answered in reversed(lane):
            self._first.append(min(answered, self._first[-1] if self._first else answered))
        self._first.reverse()

    def first_answer_after(self, time_ms: int) -> int | None:
        """When any request that came at *time_ms* or later was first answered."""
        index = bisect_left(self._asked, time_ms)
        return self._first[index] if index < len(self._first) else None


def _answered(evidence: Evidence) -> Iterator[tuple[int, int, int]]:
    """Partition, time of the request and of its first reply, where there is one."""
    first: dict[bytes | None, int] = {}
    for reply in evidence.answered:
        known = first.get(reply.correlation_id, reply.time_ms)
        first[reply.correlation_id] = min(known, reply.time_ms)
    for asked in evidence.asked:
        answered_ms = first.get(asked.correlation_id)
        if asked.kind in STATUS and asked.correlation_id is not None and answered_ms is not None:
            yield asked.partition, asked.time_ms, answered_ms


def downtime_seconds(done: Sequence[Done]) -> float:
    """How long brokers were away, all together."""
    away = (each for each in done if each.act in (Act.BROKER_KILL, Act.BROKER_ROLL))
    return sum(each.ended_ms - each.time_ms for each in away) / 1000
