"""Where a worker's time goes under a full backlog: `python bench/profiling.py`.

Samples the worker's process with py-spy while it drains: of the moments when a thread holds the
interpreter lock, how many each step had. Sums are by function, with all that it calls.
"""

import argparse
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from broker import Broker, between, open_broker
from drain import place_for
from environments import python_of
from ground import FULL, Ground
from systems import Running, ours
from workload import REPLIES, Form

SECONDS, SAMPLES_PER_SECOND = 6, 250
STEPS = (
    "KafkaSource.fetch",
    "record_of",
    "Forms.read",
    "locate",
    "check_route",
    "decode",
    "MicroBatcher.take",
    "infer",
    "encode",
    "RecordProducer.publish",
    "RecordProducer.serve",
    "AtLeastOnce.take",
    "AtLeastOnce._on_settled",
    "Reporter.answered",
)


def shares(stacks: str) -> tuple[Counter[str], Counter[str]]:
    """Of all samples, the share in which each function was anywhere on the stack, and on top."""
    within: Counter[str] = Counter()
    on_top: Counter[str] = Counter()
    samples = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.partition(" (")[0] for frame in stack.split(";")]
        samples += int(count)
        on_top[frames[-1]] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    for counter in (within, on_top):
        for name in counter:
            counter[name] = round(counter[name] / samples * 1000)
    return within, on_top


def record(broker: Broker, ground: Ground, form: Form, out: Path) -> float:
    """Sample a worker in the middle of its backlog; requests per second meanwhile."""
    system = ours(form)
    backlog = ground.backlog(system)
    started = broker.ends(REPLIES)
    place = place_for(broker, backlog, ground.folder)
    with Running(system, place) as running:
        while between(started, broker.ends(REPLIES)) < backlog.records * 0.1:
            time.sleep(0.05)
        before, at = between(started, broker.ends(REPLIES)), time.perf_counter()
        options = ["-d", str(SECONDS), "-r", str(SAMPLES_PER_SECOND), "-f", "raw", "-o", str(out)]
        profiler = str(python_of("profiler").with_name("py-spy"))
        target = ["-p", str(running.process_id)]
        subprocess.run(
            [profiler, "record", "--gil", *target, *options], check=True, capture_output=True
        )
        done = between(started, broker.ends(REPLIES)) - before
        return done / (time.perf_counter() - at)


def main() -> None:
    """Sample, add up, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", type=Form, choices=list(Form), default=Form.BINARY)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_broker() as broker:
        out = Path(folder) / "stacks.txt"
        ground = Ground(broker, Path(folder), FULL)
        rate = record(broker, ground, given.form, out)
        within, on_top = shares(out.read_text())
    print(f"{rate:,.0f} requests/s while sampled\n\n| step | share of the lock |\n|---|---:|")
    for step in STEPS:
        print(f"| {step} | {within[step] / 10:.1f} % |")
    print("\n| function alone | share |\n|---|---:|")
    for name, share in on_top.most_common(25):
        print(f"| {name} | {share / 10:.1f} % |")


if __name__ == "__main__":
    main()
