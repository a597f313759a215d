"""docs/contract.md, broker/asyncapi.yaml, the golden files and the code say the same."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from unit.contract import asyncapi
from unit.contract.asyncapi import LETTER_FORMS, REPLY_FORMS, REQUEST_FORMS, table
from unit.contract.examples import REQUEST, RESPONSE, worked
from unit.contract.generated import ASYNCAPI, CONTRACT, GOLDEN, files
from unit.contract.tensors import all_same, any_tensors

from ondemand import limits
from ondemand.contract.binary_data import decode_bytes
from ondemand.contract.codec import (
    InferRequest,
    InferResponse,
    decode_error,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from ondemand.contract.document import parse_object
from ondemand.contract.headers import CONTENT_TYPE, HEAD_LENGTH, ROUTING, Dialect
from ondemand.contract.tensor import DTYPES, Datatype
from ondemand.errors import REFUSALS, Status

TEXT = CONTRACT.read_text("utf-8")
NATIVE = ROUTING[Dialect.NATIVE]
FORM = {CONTENT_TYPE, HEAD_LENGTH}
GENERATED = files()


def first_column(heading):
    """The first cell of each row under *heading*, without the backticks."""
    return [row[0].strip("`") for row in table(TEXT, heading)]


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path):
    """Golden bodies and AsyncAPI are, byte for byte, what the code writes today.

    If the change was meant: ``cd tests && python -m unit.contract.generated``.
    """
    assert path.read_bytes() == GENERATED[path]


def test_no_golden_file_is_left_over():
    """Every golden file is one that the code writes."""
    assert set(GOLDEN.iterdir()) == {path for path in GENERATED if path.parent == GOLDEN}


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_golden_bodies_are_read(path):
    """The golden bodies decode to the tensors, names and IDs that they were made of."""
    length = re.search(r"head-(\d+)", path.name)
    head_length = int(length[1]) if length else None
    value = path.read_bytes()
    if path.name.startswith("request"):
        found = decode_request(value, head_length)
        assert all_same(found.inputs, REQUEST.inputs)
        assert (found.id, found.outputs) == (REQUEST.id, REQUEST.outputs)
    elif path.name.startswith("response"):
        answer = decode_response(value, head_length)
        assert all_same(answer.outputs, RESPONSE.outputs)
        assert (answer.model_name, answer.model_version) == ("everything", "1.2.0")
    else:
        assert decode_error(value) == "größer als „erlaubt“"


def test_the_worked_example_is_what_the_code_makes():
    """Each record of the worked example stands in the document as it goes to the broker."""
    for name, shown in worked().items():
        assert f"```text\n{shown}\n```" in TEXT, f"{name} should read:\n{shown}"


def test_the_tables_of_headers_name_what_the_code_reads_and_writes():
    """Request, reply and dead-letter headers: none is missing, none is made up."""
    routing = {NATIVE.correlation, NATIVE.topic, NATIVE.partition}
    assert set(first_column("Request headers")) == routing | FORM | set(REQUEST_FORMS)
    assert set(first_column("Reply headers")) == {NATIVE.correlation} | FORM | set(REPLY_FORMS)
    assert set(first_column("Dead letters")) == set(LETTER_FORMS)


def test_the_table_of_dialects_is_the_codes():
    """Dialects stand in order of precedence, with their header names and forms."""
    rows = [[cell.replace("`", "") for cell in row] for row in table(TEXT, "Dialects")]
    forms = {True: "ASCII decimal", False: "4 bytes, big-endian, signed"}
    assert rows == [
        [dialect, n.correlation, n.topic, f"{n.partition}, {forms[n.ascii_partition]}"]
        for dialect, n in ROUTING.items()
    ]


def test_the_table_of_statuses_is_the_codes():
    """Statuses stand in the code's order, and each refusal says there who must act."""
    assert first_column("Statuses") == [status.value for status in Status]
    for row in table(TEXT, "Statuses"):
        status = Status(row[0].strip("`"))
        if status is not Status.OK:
            sentence = f"{row[1]} must act:"
            told = (REFUSALS[status].__doc__ or "").lower().removeprefix("the ")
            assert told.startswith(sentence), f"{status}: {told}"


def test_the_table_of_limits_is_the_codes():
    """The numbers of the document are those of the code."""
    assert [int(row[1]) for row in table(TEXT, "Limits")] == [
        limits.REQUEST_BYTES_MAX,
        limits.REQUEST_ROWS_MAX,
        limits.REPLY_BYTES_MAX,
        limits.CLAIM_BYTES_MAX,
        limits.CLAIM_EXPIRES_SECONDS,
        limits.CORRELATION_ID_BYTES_MAX,
        limits.HEADERS_MAX,
        limits.HEADER_VALUE_BYTES_MAX,
        limits.TENSORS_MAX,
        limits.AXES_MAX,
        limits.JSON_DEPTH_MAX,
    ]
    assert f"{{0,{limits.NAME_LENGTH_MAX - 1}}}" in TEXT


@pytest.mark.parametrize("heading", ["JSON", "Binary"])
def test_the_tables_of_datatypes_are_complete(heading):
    """Each datatype has its row once in each form; sizes are those that are read."""
    sizes = {}
    for cell, told in table(TEXT, heading):
        for name in re.findall(r"`(\w+)`", cell):
            assert name not in sizes
            sizes[name] = told
    assert set(sizes) == set(Datatype)
    if heading == "Binary":
        for name, told in sizes.items():
            size = int(re.match(r"\d+", told)[0])
            value, count = bytes(size), 1
            found = decode_bytes(value, 0, size, datatype=Datatype(name), shape=[1], count=count)
            assert found.dtype == DTYPES[Datatype(name)]


DOCUMENT = yaml.safe_load(ASYNCAPI.read_bytes())


def at(reference):
    """What a reference within the AsyncAPI document points to."""
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(node):
    """Every ``$ref`` in a part of the document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def test_asyncapi_is_whole():
    """References lead somewhere; each message has the headers that it requires."""
    for reference in references(DOCUMENT):
        assert at(reference), reference
    for name, message in DOCUMENT["components"]["messages"].items():
        Draft7Validator.check_schema(message["headers"])
        known = message["headers"]["properties"]
        assert set(message["headers"]["required"]) <= set(known), name
        if "correlationId" in message:
            assert message["correlationId"]["location"].removeprefix("$message.header#/") in known
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_the_reply_is_where_the_request_says():
    """The request/reply operation takes its address from the request's header; the reply's channel
    has none of its own, as AsyncAPI wants it then."""
    answer = DOCUMENT["operations"]["predict"]["reply"]
    assert answer["address"]["location"] == f"$message.header#/{NATIVE.topic}"
    assert at(answer["channel"]["$ref"])["address"] is None


def validator(schema):
    """Validates bodies against one of the document's schemas."""
    return Draft7Validator({"$ref": f"#/components/schemas/{schema}", **DOCUMENT})


REQUESTS, RESPONSES, ERRORS = validator("Request"), validator("Response"), validator("Error")


@settings(max_examples=15, deadline=None)
@given(any_tensors(json=True), st.booleans(), st.none() | st.text(max_size=3))
def test_what_we_write_fits_the_schemas(tensors, binary, id_):
    """Every body of ours, in either form, fits the published schema."""
    asked = encode_request(InferRequest(tensors, ("a",), id_), binary=binary)
    REQUESTS.validate(parse_object(asked.value[: asked.head_length]))
    answered = encode_response(InferResponse("m", "1", tensors, id_), binary=binary)
    RESPONSES.validate(parse_object(answered.value[: answered.head_length]))


def test_schemas_refuse_what_the_code_refuses():
    """The schemas are not empty shells: broken bodies do not fit them."""
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    assert REQUESTS.is_valid({"inputs": [tensor]})
    for change in (
        {"name": 1},
        {"shape": [-1]},
        {"shape": [1] * (limits.AXES_MAX + 1)},
        {"datatype": "BF16"},
        {"data": 3},
        {"parameters": {"binary_data_size": 4}},
    ):
        broken = {"inputs": [tensor | change]}
        assert REQUESTS.is_valid(broken) is ("parameters" in change), change
    assert not REQUESTS.is_valid({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]})
    assert not REQUESTS.is_valid({})
    assert not REQUESTS.is_valid({"inputs": [tensor], "id": 3})
    assert not RESPONSES.is_valid({"outputs": []})
    assert ERRORS.is_valid({"error": "e", "code": "internal"})
    assert not ERRORS.is_valid({"error": "e", "code": "other"})


def test_a_missing_row_is_noticed():
    """The document cannot lose a header that the code has: the generator stops."""
    with pytest.raises(KeyError, match="deadline"):
        asyncapi.build(TEXT.replace("| `deadline` |", "| `dead-line` |"))
