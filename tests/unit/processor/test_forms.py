"""What is remembered of requests: the quick way says what the thorough way says, or nothing."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.contract.arrays import array_tensors
from ondemand.contract.codec import InferRequest, encode_request
from ondemand.contract.headers import Dialect
from ondemand.contract.json_numbers import BYTES_MIN
from ondemand.contract.layout import HEAD_BYTES_KEPT, HEADS_KEPT
from ondemand.contract.record import Record
from ondemand.contract.tensor import DTYPES, Datatype
from ondemand.limits import HEADER_VALUE_BYTES_MAX, HEADERS_MAX
from ondemand.processor.decode import Policy, decode, locate
from ondemand.processor.forms import ROUTE_BYTES_KEPT, ROUTES_KEPT, Forms
from ondemand.processor.request import Located, Request
from ondemand.runtime.base import Signature, TensorSpec

NOW_MS = 1_000_000
PADDING = " " * BYTES_MIN
SIGNATURE = Signature(
    inputs=(
        TensorSpec("a", Datatype.FP32, (None, None)),
        TensorSpec("b", Datatype.FP64, (None, 2)),
    ),
    outputs=(TensorSpec("y", Datatype.FP32, (None, 1)), TensorSpec("z", Datatype.FP32, (None,))),
    batched=True,
)
POLICY = Policy(SIGNATURE, "1", tuple(Dialect))


def policy_for(datatype: Datatype, shape: tuple[int | None, ...] = (None,)) -> Policy:
    """One input ``a`` of this datatype."""
    return Policy(Signature((TensorSpec("a", datatype, shape),), (), batched=True), "1")


def record(
    *tensors: tuple[str, object],
    binary: bool = True,
    outputs: tuple[str, ...] = (),
    request_id: str | None = None,
    headers: tuple[tuple[str, bytes | None], ...] = (),
    partition: int = 3,
) -> Record:
    """A request with these arrays, or with a's and b's of a fixed size."""
    arrays = tensors or (
        ("a", np.ones((2, 3), dtype=np.float32)),
        ("b", np.zeros((2, 2), dtype=np.float64)),
    )
    request = InferRequest(array_tensors(arrays), outputs, request_id)
    body = encode_request(request, binary=binary)
    return raw(body.value, body.head_length, headers=headers, partition=partition)


def raw(
    value: bytes,
    head_length: int | None = None,
    *,
    headers: tuple[tuple[str, bytes | None], ...] = (),
    partition: int = 3,
) -> Record:
    """A request with this body."""
    form: tuple[tuple[str, bytes | None], ...] = ()
    if head_length is not None:
        length = b"%d" % head_length
        form = (
            ("content-type", b"application/octet-stream"),
            ("inference-header-content-length", length),
        )
    routing = (
        ("correlation-id", b"c1"),
        ("reply-topic", b"s.replies"),
        ("reply-partition", b"%d" % partition),
    )
    return Record("m.requests", 0, 7, b"k", value, [*routing, *form, *headers], 900_000)


def thoroughly(of: Record, policy: Policy = POLICY) -> Request | None:
    """The request in a record, by the steps of ``decode``; None where it is refused."""
    located = locate(of, policy, now=1.0)
    if not isinstance(located, Located):
        return None
    found = decode(located, policy, now_ms=NOW_MS)
    return found if isinstance(found, Request) else None


def quickly(forms: Forms, of: Record) -> Request | None:
    """The request in a record, by what is remembered."""
    return forms.read(of, now=1.0, now_ms=NOW_MS)


def taught(*records: Record, policy: Policy = POLICY) -> Forms:
    """What is remembered of *records*, each of them said as often as it takes."""
    forms = Forms(policy)
    for each in records:
        teach(forms, each, policy)
    return forms


def teach(forms: Forms, of: Record, policy: Policy = POLICY) -> None:
    """As the loop does it: what is not known goes the thorough way, and is remembered."""
    for _ in range(2):
        if quickly(forms, of) is None and (found := thoroughly(of, policy)) is not None:
            forms.keep(found)


def told(request: Request | None) -> object:
    """All that a request says, to compare by."""
    if request is None:
        return None
    located = request.located
    return (
        {name: (a.dtype, a.shape, a.tobytes()) for name, a in request.inputs.items()},
        (request.outputs, request.id, request.rows, request.size_bytes, request.kind),
        (request.deadline_ms, request.binary),
        (located.address, located.trace, located.taken_at, located.record),
    )


def agree(forms: Forms, of: Record, policy: Policy = POLICY) -> bool:
    """Whether the quick way knew *of*; what it said is what the thorough way says."""
    quick = quickly(forms, of)
    if quick is not None:
        assert told(quick) == told(thoroughly(of, policy))
    return quick is not None


@pytest.mark.parametrize("binary", [True, False])
def test_each_body_gives_its_own_numbers(*, binary: bool) -> None:
    """One form, two bodies: the second gives what it holds, not what the first held."""

    def of(fill: float) -> Record:
        wide = np.full((2, 400), fill, dtype=np.float32)
        return record(("a", wide), ("b", np.ones((2, 2))), binary=binary, outputs=("z",))

    forms = taught(of(0.25))
    for fill in (0.5, -1.5, 0.25):
        assert agree(forms, of(fill))
        found = quickly(forms, of(fill))
        assert found is not None
        assert set(found.inputs["a"].ravel().tolist()) == {fill}
        assert found.outputs == ("z",)


numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
lists = st.lists(numbers, max_size=6)


@given(st.lists(st.tuples(lists, lists), min_size=1, max_size=3), st.booleans())
def test_what_comes_after_is_read_as_if_it_came_first(bodies, swapped):
    """Bodies that are alike, and bodies that are not quite: fewer numbers, larger ones."""
    forms = Forms(POLICY)
    for a, b in [*bodies, *bodies]:
        first = f'{{"name":"a","datatype":"FP32","shape":[1,{len(bodies[0][0])}],"data":'
        second = '{"name":"b","datatype":"FP64","shape":[1,2],"data":'
        entries = [first + json.dumps(a) + "}", second + json.dumps(b) + "}"]
        listed = ",".join(reversed(entries) if swapped else entries)
        each = raw(f'{{"inputs":[{listed}]{PADDING}}}'.encode())
        agree(forms, each)
        teach(forms, each)
        agree(forms, each)


@pytest.mark.parametrize("change", [-1, 1, 8])
def test_a_known_head_with_a_body_of_another_length_is_not_known(change: int) -> None:
    """Too short or too long: left to whoever refuses it."""
    sound = record()
    forms = taught(sound)
    value = sound.value or b""
    broken = value[:change] if change < 0 else value + b"\0" * change
    assert agree(forms, sound)
    assert quickly(forms, sound._replace(value=broken)) is None


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        (Datatype.BOOL, np.array([True, False])),
        (Datatype.BYTES, np.array([b"ab", b"c"], dtype=object)),
    ],
)
def test_bytes_that_must_be_looked_at_are_looked_at_each_time(datatype, array) -> None:
    """A sound BOOL tensor does not vouch for the next one, nor does a text of the same length."""
    policy = policy_for(datatype)
    of = record(("a", array))
    assert thoroughly(of, policy) is not None
    assert quickly(taught(of, policy=policy), of) is None


def test_a_head_that_holds_a_tensor_itself_is_not_remembered() -> None:
    """JSON data in a binary body's head belongs to that body."""
    policy = policy_for(Datatype.FP32, (None, 2))
    head = b'{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'
    of = raw(head, len(head))
    assert thoroughly(of, policy) is not None
    assert quickly(taught(of, policy=policy), of) is None


def test_lists_in_other_places_are_not_taken_for_inputs() -> None:
    """Where lists and inputs are not one for one, nothing is remembered of the body."""
    policy = policy_for(Datatype.FP32)
    entry = '{"name":"a","datatype":"FP32","shape":[1],"data":[1]%s}'
    for more in (',"data":[2]', ',"parameters":{"data":[1]}'):
        of = raw(f'{{"inputs":[{entry % more}]{PADDING}}}'.encode())
        assert thoroughly(of, policy) is not None
        assert quickly(taught(of, policy=policy), of) is None


def test_headers_that_differ_are_judged_anew() -> None:
    """Another place, another version, one header more: nothing is taken over from those before."""
    forms = taught(record())
    assert agree(forms, record())
    for other in (
        record(partition=4),
        record(headers=(("model-version", b"1"),)),
        record(headers=(("content-encoding", b"gzip"),)),
        record(headers=(("reply-topic", b"t.replies"),)),
    ):
        assert quickly(forms, other) is None
        teach(forms, other)
        assert agree(forms, other)


@pytest.mark.parametrize("deadline", [b"%d" % NOW_MS, b"0", b"soon", b"", None, b"9" * 20])
def test_a_deadline_that_is_past_or_odd_is_left_to_whoever_refuses_it(deadline) -> None:
    """As often as it comes."""
    forms = taught(record(headers=(("deadline", b"%d" % (NOW_MS + 5)),)))
    assert agree(forms, record(headers=(("deadline", b"%d" % (NOW_MS + 1)),)))
    assert quickly(forms, record(headers=(("deadline", deadline),))) is None


def test_without_a_deadline_the_workers_own_counts() -> None:
    """From the record's own time."""
    policy = Policy(SIGNATURE, "1", default_deadline_seconds=200.0)
    forms = taught(record(), policy=policy)
    assert agree(forms, record(), policy)
    found = quickly(forms, record())
    assert found is not None
    assert found.deadline_ms == 1_100_000
    assert quickly(forms, record()._replace(timestamp_ms=700_000)) is None


def test_a_trace_is_handed_on() -> None:
    """Each request's own; what is odd is left to whoever refuses it."""
    forms = taught(record())
    for trace in ((b"00-1", None), (None, b"a=b"), (b"00-2", b"c=d")):
        names = zip(("traceparent", "tracestate"), trace, strict=True)
        of = record(headers=tuple((name, value) for name, value in names if value))
        assert agree(forms, of)
        found = quickly(forms, of)
        assert found is not None
        assert found.located.trace == trace
    for odd in (b"", None, b"x" * (HEADER_VALUE_BYTES_MAX + 1)):
        assert quickly(forms, record(headers=(("traceparent", odd),))) is None


@pytest.mark.parametrize("correlation_id", [None, b"", b"x" * 129])
def test_whom_nobody_could_answer_is_not_known(correlation_id) -> None:
    """A correlation ID is looked at each time."""
    forms = taught(record())
    headers = [("correlation-id", correlation_id), *record().headers[1:]]
    assert quickly(forms, record()._replace(headers=headers)) is None
    assert quickly(forms, record()._replace(headers=headers[1:])) is None
    assert quickly(forms, record()._replace(value=None)) is None


def test_other_dialects_go_the_thorough_way() -> None:
    """Their headers are not remembered."""
    spring = [
        ("kafka_correlationId", b"c1"),
        ("kafka_replyTopic", b"s.replies"),
        ("kafka_replyPartition", b"\0\0\0\3"),
        *record().headers[3:],
    ]
    of = record()._replace(headers=spring)
    assert thoroughly(of) is not None
    assert quickly(taught(record(), of), of) is None


def test_who_is_under_a_verdict_is_judged() -> None:
    """While there are verdicts nobody goes the quick way."""
    verdicts: dict[tuple[int, int], str] = {}
    forms = Forms(Policy(SIGNATURE, "1", verdicts=verdicts))
    teach(forms, record())
    assert agree(forms, record())
    verdicts[0, 8] = "it ended five processes"
    assert quickly(forms, record()) is None


def test_what_is_remembered_is_bounded() -> None:
    """Heads and headers that differ each time, and long ones, do not pile up."""
    forms = taught(record())
    for n in range(max(HEADS_KEPT, ROUTES_KEPT) + 10):
        teach(forms, record(request_id=str(n % (HEADS_KEPT + 10)), partition=n))
        assert len(forms) <= HEADS_KEPT
        assert len(forms._routes) <= ROUTES_KEPT
    long_id = record(request_id="n" * HEAD_BYTES_KEPT)
    assert quickly(taught(long_id), long_id) is None
    long_route = record(headers=(("comment", b"x" * ROUTE_BYTES_KEPT),))
    assert quickly(taught(long_route), long_route) is None
    most = tuple((f"h{n}", b"") for n in range(HEADERS_MAX - len(record().headers)))
    assert thoroughly(record(headers=most)) is not None
    assert quickly(taught(record(headers=most)), record(headers=most)) is None


def test_headers_are_remembered_once_a_form_was_said_twice() -> None:
    """Where each body has an ID of its own, nothing is looked up in vain."""
    forms = Forms(POLICY)
    for n in range(5):
        found = thoroughly(record(request_id=str(n)))
        assert found is not None
        forms.keep(found)
    assert not forms._routes


@pytest.mark.parametrize("datatype", [Datatype.INT64, Datatype.FP16, Datatype.FP64])
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_keeps_its_bits(datatype: Datatype, *, binary: bool) -> None:
    """What the quick way does not take it leaves."""
    policy = policy_for(datatype)
    array = np.arange(300).astype(DTYPES[datatype])
    of = record(("a", array), binary=binary)
    quick = agree(taught(of, policy=policy), of, policy)
    assert quick == (binary or datatype is not Datatype.INT64)
