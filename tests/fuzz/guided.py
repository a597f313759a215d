"""Records that a coverage-guided fuzzer makes of good ones: `make fuzz-guided`.

It needs the package `atheris`, which has wheels for few systems and is not among what is pinned. A
finding ends the run and leaves its input in the working folder as `crash-…`: give its path as an
argument to see it again.
"""

import contextlib
import random
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("this needs atheris: .venv/bin/python -m pip install atheris==3.0.0")

with atheris.instrument_imports(include=["ondemand"]):
    from fuzz.judge import judge
    from fuzz.records import Sample
    from fuzz.targets import HEADER_NAMES, REPLIES, REQUESTS, TARGETS, good

    from ondemand.contract.headers import ROUTING, form_headers
    from ondemand.contract.record import Record

SEEDS = 200
_NONE, _JSON = 0, 1  # the forms of a body; anything else: binary


def sample_of(data: bytes) -> Sample:
    """Six bytes say target, form, length of the head (two), one more header and the length of its
    value; then come that value and the body."""
    told = data[:6].ljust(6, b"\0")
    target = TARGETS[told[0] % len(TARGETS)]
    names = ROUTING[target.policy.dialects[0]]
    partition = b"0" if names.ascii_partition else bytes(4)
    headers: list[tuple[str, bytes | None]] = [
        (names.correlation, b"guided"),
        (names.topic, REPLIES.encode()),
        (names.partition, partition),
    ]
    if form := told[1] % 3:
        length = None if form == _JSON else int.from_bytes(told[2:4], "big")
        headers += form_headers(length)
    value, body = data[6 : 6 + told[5]], data[6 + told[5] :]
    if told[4] < len(HEADER_NAMES):
        headers.append((HEADER_NAMES[told[4]], value))
    return Sample(0, target, Record(REQUESTS, 0, 0, None, body, tuple(headers), 1_000), ("guided",))


def seed_of(number: int) -> bytes:
    """A good request, in the form that ``sample_of`` reads."""
    which = number % len(TARGETS)
    body = good(TARGETS[which], number, random.Random(number)).body
    form = _JSON if body.head_length is None else 2
    told = bytes([which, form]) + (body.head_length or 0).to_bytes(2, "big") + b"\xff\0"
    return told + body.value


def main() -> None:
    """Hand over to the fuzzer; it ends the process."""
    with contextlib.ExitStack() as stack:
        corpus = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number in range(SEEDS):
            seed = seed_of(number)
            assert judge(sample_of(seed)) == "ok", seed
            (corpus / f"{number}").write_bytes(seed)
        given = sys.argv[1:] or ["-runs=1000000"]
        files = [argument for argument in given if not argument.startswith("-")]
        options = [argument for argument in given if argument.startswith("-")]
        atheris.Setup(
            [sys.argv[0], "-max_len=4096", *options, *(files or [str(corpus)])],
            lambda data: judge(sample_of(data)) and None,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
