"""A record becomes a request, or a refusal that says why."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.processor.builders import SIGNATURE, record

from ondemand.contract.claim import CLAIM_BYTES, CLAIM_CHECK, claim_headers, claim_of
from ondemand.contract.codec import InferRequest, encode_request
from ondemand.contract.headers import Dialect, ReplyAddress
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.contract.topics import ReplyTopicRule
from ondemand.errors import Status
from ondemand.processor.decode import Policy, check_route, decode, locate, redeem
from ondemand.processor.outcome import Rejected, Unanswerable
from ondemand.processor.request import Claimed, Located, Request
from ondemand.runtime.base import Signature, TensorSpec

POLICY = Policy(signature=SIGNATURE, model_version="1")
ADDRESS = ReplyAddress(b"c", "s.replies", 0, Dialect.NATIVE)
ROUTING = (("correlation-id", b"c"), ("reply-topic", b"s.replies"), ("reply-partition", b"0"))
NOW_MS = 1_000_000


def tensor(data, name="x", datatype=Datatype.FP32, dtype=np.float32):
    """A tensor of the signature's only input, or of anything else."""
    return Tensor(name, datatype, np.asarray(data, dtype=dtype))


def arrive(*tensors, policy=POLICY, headers=(), outputs=(), value=None, binary=False):
    """What becomes of a request with these tensors, or of this very body."""
    body = encode_request(InferRequest(tensors, outputs, "r1"), binary=binary)
    terms = (
        ()
        if body.head_length is None
        else (
            ("content-type", b"application/octet-stream"),
            ("inference-header-content-length", b"%d" % body.head_length),
        )
    )
    sent = record(
        value=body.value if value is None else value, headers=(*ROUTING, *terms, *headers)
    )
    located = locate(sent, policy, now=1.0)
    assert isinstance(located, Located)
    return decode(located, policy, now_ms=NOW_MS)


@pytest.mark.parametrize("binary", [True, False])
def test_a_fitting_request_keeps_all_that_it_says(binary):
    """Both forms of the body decode to the same request."""
    got = arrive(tensor([[1, 2], [3, 4]]), outputs=("y",), binary=binary)

    assert isinstance(got, Request)
    assert (got.rows, got.id, got.outputs, got.deadline_ms) == (2, "r1", ("y",), None)
    np.testing.assert_array_equal(got.inputs["x"], [[1, 2], [3, 4]])
    assert got.located.address == ADDRESS


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((tensor([[1.0, 2.0]], "z"),), "inputs 'z' were given; this model takes 'x'"),
        ((tensor([[1, 2]]), tensor([[1, 2]])), "`inputs` names 'x' more than once"),
        ((tensor([[1, 2, 3]]),), "got x: FP32[1, 3]; this model takes x: FP32[any, 2]"),
        ((tensor([1, 2]),), "got x: FP32[2]; this model takes x: FP32[any, 2]"),
        (
            (tensor([[1, 2]], datatype=Datatype.INT64, dtype=np.int64),),
            "got x: INT64[1, 2]; this model takes x: FP32[any, 2]",
        ),
        ((tensor(np.zeros((0, 2))),), "the inputs have no rows"),
    ],
)
def test_what_does_not_fit_the_model_is_the_callers_to_mend(tensors, message):
    """Name, count, shape, datatype and rows are checked before the model sees anything."""
    assert arrive(*tensors) == Rejected(Status.INVALID_INPUT, message)


def test_sizes_are_checked_before_anything_is_parsed():
    """An oversized body is refused unparsed: here it is not even JSON."""
    small = replace(POLICY, request_bytes_max=100, request_rows_max=2)

    assert arrive(value=b"{" * 101, policy=small) == Rejected(
        Status.TOO_LARGE, "the body has 101 bytes; this worker takes 100"
    )
    assert arrive(tensor([[1, 2]] * 3), policy=replace(small, request_bytes_max=1000)) == Rejected(
        Status.TOO_LARGE, "the request has 3 rows; this worker takes 2"
    )


def test_versions_and_outputs_are_the_ones_served():
    """A caller that asks for another version or an unknown output learns which there are."""
    assert arrive(tensor([[1, 2]]), headers=[("model-version", b"2")]) == Rejected(
        Status.UNSUPPORTED_VERSION, "version '2' was asked for; '1' is served"
    )
    assert arrive(tensor([[1, 2]]), outputs=("z",)) == Rejected(
        Status.INVALID_INPUT, "output 'z' was asked for; this model gives 'y'"
    )


@pytest.mark.parametrize(("deadline_ms", "passed"), [(NOW_MS, True), (NOW_MS + 1, False)])
def test_a_deadline_that_has_passed_is_answered_unrun(deadline_ms, passed):
    """The caller has given up: the model's time is for those who have not."""
    got = arrive(tensor([[1, 2]]), headers=[("deadline", b"%d" % deadline_ms)])

    assert isinstance(got, Rejected) is passed
    if passed:
        assert got.status == Status.DEADLINE_EXCEEDED


def test_the_default_deadline_counts_from_the_records_time():
    """Stock clients name no deadline: the operator can say how long anyone waits."""
    policy = replace(POLICY, default_deadline_seconds=0.5)

    assert arrive(tensor([[1, 2]]), policy=policy).deadline_ms == NOW_MS + 500


def test_rows_must_agree_between_inputs():
    """Two inputs with different row counts cannot be one batch."""
    two = Signature(
        (TensorSpec("x", Datatype.FP32, (None,)), TensorSpec("w", Datatype.FP32, (None,))),
        SIGNATURE.outputs,
        batched=True,
    )
    got = arrive(tensor([1]), tensor([1, 2], "w"), policy=replace(POLICY, signature=two))

    assert got == Rejected(Status.INVALID_INPUT, "the inputs have different row counts: [1, 2]")


def test_whom_nobody_can_answer():
    """Without a usable address there is no reply: the message says what is missing."""
    nobody = locate(record(headers=[("reply-topic", b"s.replies")]), POLICY, now=0.0)

    assert isinstance(nobody, Unanswerable)
    assert "correlation-id" in nobody.message


@pytest.mark.parametrize("topic", ["__consumer_offsets", "m.requests", "s.answers", "x.replies.y"])
def test_only_allowed_topics_are_answered(topic):
    """A request must not borrow the worker's right to write where its sender may not."""
    rule = ReplyTopicRule(denied=frozenset({"m.requests"}))
    sent = record(headers=[("correlation-id", b"c"), ("reply-topic", topic.encode())])

    assert isinstance(locate(sent, replace(POLICY, reply_topics=rule), now=0.0), Unanswerable)


def test_routes_are_looked_up():
    """A topic or partition that is not there is said so, by name."""
    assert check_route(ADDRESS, 1) is None
    assert check_route(ADDRESS, None) == Unanswerable("the reply topic 's.replies' is not there")
    assert check_route(ADDRESS._replace(partition=4), 4) == Unanswerable(
        "the reply partition s.replies/4 is not there: the topic has 4"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["inputs", "name", "shape", "datatype", "data", "id", "outputs"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200) | JSON.map(lambda document: json.dumps(document).encode()))
def test_no_body_whatsoever_raises(value):
    """A bad record becomes a refusal of the caller's kind, never an exception."""
    got = arrive(value=value)

    assert isinstance(got, Rejected)
    assert got.status in {Status.INVALID_REQUEST, Status.INVALID_INPUT, Status.TOO_LARGE}


LONG = "n" * 5_000


@pytest.mark.parametrize(
    ("names", "outputs", "headers"),
    [
        ([LONG], (), ()),
        ([f"{i}{LONG}" for i in range(64)], (), ()),
        (["x"], (LONG,), ()),
        (["x"], (), [("model-version", b"7" * 4_000)]),
    ],
    ids=["a name", "many names", "an output", "a version"],
)
def test_no_message_grows_with_what_a_stranger_sent(names, outputs, headers):
    """A refusal quotes what was sent, cut: otherwise each bad request would cost the broker twice,
    and a reply could become too large to be published."""
    got = arrive(*(tensor([[1, 2]], name) for name in names), outputs=outputs, headers=headers)

    assert isinstance(got, Rejected)
    assert len(got.message) < 1_000


CLAIMS = replace(POLICY, claim_bytes_max=1_000, claim_expires_seconds=60.0)
BODY = encode_request(InferRequest((tensor([[1, 2]]),), (), "r1"), binary=False).value
CLAIM = claim_of("m.requests", BODY, day="2026-01-31", unique="0" * 32)


def claim(*, policy=CLAIMS, value=b"", headers=(), timestamp_ms=NOW_MS):
    """What becomes of a request whose body is elsewhere."""
    every = (*ROUTING, *claim_headers(CLAIM), *headers)
    sent = record(value=value, headers=every, timestamp_ms=timestamp_ms)
    located = locate(sent, policy, now=1.0)
    assert isinstance(located, Located)
    return decode(located, policy, now_ms=NOW_MS)


@pytest.mark.parametrize("value", [b"", None])
def test_a_claim_check_is_redeemed_to_the_request_that_it_stands_for(value):
    """The same request as from a record, counted with its own size."""
    got = claim(value=value)
    assert isinstance(got, Claimed)
    assert got.claim == CLAIM
    redeemed = redeem(got, BODY, CLAIMS)
    assert isinstance(redeemed, Request)
    assert (redeemed.id, redeemed.rows, redeemed.size_bytes) == ("r1", 1, len(BODY))
    np.testing.assert_array_equal(redeemed.inputs["x"], [[1, 2]])


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ({"policy": POLICY}, "invalid-request", "takes no claim checks"),
        ({"value": b"{}"}, "invalid-request", "the record has one, too"),
        ({"headers": [(CLAIM_BYTES, b"1001")]}, "too-large", "1001 bytes; this worker takes 1000"),
        ({"headers": [(CLAIM_CHECK, b"../etc/passwd")]}, "invalid-request", "expected a key as"),
        ({"timestamp_ms": NOW_MS - 60_001}, "invalid-request", "has expired: it is 60 s old"),
        ({"headers": [("deadline", b"5")]}, "deadline-exceeded", "deadline"),
        ({"headers": [("model-version", b"7")]}, "unsupported-version", "'7'"),
    ],
)
def test_nothing_is_read_for_a_claim_check_that_cannot_be_served(how, status, said):
    """All that the headers say is checked before the store is asked."""
    got = claim(**how)
    assert isinstance(got, Rejected)
    assert got.status == status
    assert said in got.message


@pytest.mark.parametrize("timestamp_ms", [-1, NOW_MS - 60_000, NOW_MS + 99_000])
def test_a_claim_check_counts_until_it_expires(timestamp_ms):
    """By the record's timestamp, where it has one; clocks may differ."""
    assert isinstance(claim(timestamp_ms=timestamp_ms), Claimed)


@pytest.mark.parametrize(
    ("content", "said"), [(BODY + b" ", "has more"), (BODY[:-1] + b"]", "digest")]
)
def test_an_object_that_is_not_what_was_promised_is_refused(content, said):
    """It was changed, cut, or is another's."""
    redeemed = redeem(claim(), content, CLAIMS)
    assert isinstance(redeemed, Rejected)
    assert redeemed.status is Status.INVALID_REQUEST
    assert said in redeemed.message


def test_an_object_that_does_not_fit_the_model_is_refused_as_ever():
    """Where the body came from changes nothing."""
    body = encode_request(InferRequest((tensor([[1, 2, 3]]),)), binary=False).value
    other = claim_of("m.requests", body, day="2026-01-31", unique="0" * 32)
    redeemed = redeem(claim(headers=claim_headers(other)), body, CLAIMS)
    assert isinstance(redeemed, Rejected)
    assert redeemed.status is Status.INVALID_INPUT
