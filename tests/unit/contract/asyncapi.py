"""The contract as an AsyncAPI 3 document: names and limits from the code, words from the tables of
docs/contract.md. A header or status that one of them lacks stops it with a message.
"""

import re
from dataclasses import fields

from ondemand import limits
from ondemand.contract import claim, dead_letter, headers, reply
from ondemand.contract.announcement import GUARANTEES, Announcement
from ondemand.contract.codec import InferRequest, InferResponse
from ondemand.contract.headers import ROUTING, Dialect
from ondemand.contract.tensor import Datatype, Tensor
from ondemand.contract.topics import DEAD_LETTERS, REPLIES, REQUESTS, WORKERS
from ondemand.errors import Status

TEXT = {"type": "string"}
NAME = {"type": "string", "pattern": f"^[a-z0-9][a-z0-9._-]{{0,{limits.NAME_LENGTH_MAX - 1}}}$"}
DECIMAL = {"type": "string", "pattern": "^[0-9]{1,19}$"}
TRACE = {"type": "string", "minLength": 1, "maxLength": limits.HEADER_VALUE_BYTES_MAX}
FOUR_BYTES = {"type": "string", "format": "binary", "minLength": 4, "maxLength": 4}
CORRELATION = {
    "type": "string",
    "format": "binary",
    "minLength": 1,
    "maxLength": limits.CORRELATION_ID_BYTES_MAX,
}
FORMS = {"Json": headers.JSON.decode(), "Binary": headers.BINARY.decode()}

REQUEST_FORMS = {
    headers.DEADLINE: DECIMAL,
    headers.MODEL_VERSION: {**TEXT, "minLength": 1, "maxLength": limits.HEADER_VALUE_BYTES_MAX},
    headers.TRACEPARENT: TRACE,
    headers.TRACESTATE: TRACE,
    claim.CLAIM_CHECK: {
        "type": "string",
        "pattern": "^[a-z0-9][a-z0-9._-]{0,99}/[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9a-f]{32}$",
    },
    claim.CLAIM_BYTES: {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"},
    claim.CLAIM_SHA256: {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    dead_letter.REDRIVE_ATTEMPTS: DECIMAL,
}
REPLY_FORMS = {
    reply.STATUS: {"type": "string", "enum": [status.value for status in Status]},
    reply.MODEL_NAME: TEXT,
    headers.MODEL_VERSION: TEXT,
    reply.SERVER_TIMING: TEXT,
    headers.TRACEPARENT: TRACE,
    headers.TRACESTATE: TRACE,
}
LETTER_FORMS = {
    dead_letter.REASON: {
        "type": "string",
        "enum": [dead_letter.UNANSWERABLE, *(status.value for status in Status)],
    },
    dead_letter.MESSAGE: {**TEXT, "maxLength": limits.HEADER_VALUE_BYTES_MAX},
    dead_letter.SOURCE: TEXT,
    dead_letter.WORKER: TEXT,
    dead_letter.TIME: DECIMAL,
    dead_letter.DIALECT: {"type": "string", "enum": [dialect.value for dialect in Dialect]},
}


def table(text, heading):
    """The first table under *heading* of a Markdown *text*: its rows, each a list of cells."""
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    rows = re.search(r"(?:^\|.*\|\n)+", section, flags=re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def words(text, heading):
    """What the last cell but one, and the first, of each row under *heading* say: name, meaning."""
    return {row[0].strip("`"): row[3].replace("`", "") for row in table(text, heading)}


def ref(kind, name):
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def properties(model, forms):
    """A schema's properties: exactly the fields of *model*, in their order."""
    names = [field.name for field in fields(model)]
    assert set(names) == set(forms), f"{model.__name__} has {names}, the schema {sorted(forms)}"
    return {name: forms[name] for name in names}


def schemas():
    """The JSON Schemas of the bodies."""
    size = {"type": "integer", "minimum": 0}
    tensors = {"type": "array", "maxItems": limits.TENSORS_MAX, "items": ref("schemas", "Tensor")}
    tensor = properties(
        Tensor,
        {
            "name": TEXT,
            "datatype": {"type": "string", "enum": [datatype.value for datatype in Datatype]},
            "data": {"type": "array", "description": "Flat, or nested as the shape; row-major."},
        },
    )
    shape = {"type": "array", "maxItems": limits.AXES_MAX, "items": size}
    names = {
        "type": "array",
        "maxItems": limits.TENSORS_MAX,
        "items": {"type": "object", "properties": {"name": TEXT}, "required": ["name"]},
    }
    optional_id = {"type": ["string", "null"]}
    has_size = {"properties": {"parameters": {"required": ["binary_data_size"]}}}
    return {
        "Tensor": {
            "type": "object",
            "properties": {
                **tensor,
                "shape": shape,
                "parameters": {"type": "object", "properties": {"binary_data_size": size}},
            },
            "required": ["name", "shape", "datatype"],
            "oneOf": [
                {"required": ["data"]},
                {"required": ["parameters"], "not": {"required": ["data"]}, **has_size},
            ],
        },
        "Request": {
            "type": "object",
            "properties": properties(
                InferRequest, {"inputs": tensors, "outputs": names, "id": optional_id}
            ),
            "required": ["inputs"],
        },
        "Response": {
            "type": "object",
            "properties": properties(
                InferResponse,
                {
                    "model_name": TEXT,
                    "model_version": TEXT,
                    "outputs": tensors,
                    "id": optional_id,
                },
            ),
            "required": ["model_name", "model_version", "outputs"],
        },
        "Error": {
            "type": "object",
            "properties": {"error": TEXT, "code": REPLY_FORMS[reply.STATUS]},
            "required": ["error", "code"],
        },
        "Binary": {
            "type": "string",
            "format": "binary",
            "description": "A JSON head (Request or Response), then the bytes of its tensors.",
        },
    }


def described(forms, meanings):
    """Header schemas with the words of the document."""
    return {name: {**form, "description": meanings[name]} for name, form in forms.items()}


def form_headers(form, meanings):
    """The headers that tell the form of a body."""
    told = {headers.CONTENT_TYPE: {"type": "string", "const": FORMS[form]}}
    if form == "Binary":
        told[headers.HEAD_LENGTH] = DECIMAL
    return described(told, meanings)


def request_messages(meanings):
    """One message for each dialect and form."""
    found = {}
    for dialect, names in ROUTING.items():
        partition = DECIMAL if names.ascii_partition else FOUR_BYTES
        native = ROUTING[Dialect.NATIVE]
        routing = {
            names.correlation: {**CORRELATION, "description": meanings[native.correlation]},
            names.topic: {**NAME, "description": meanings[native.topic]},
            names.partition: {**partition, "description": meanings[native.partition]},
        }
        for form, content_type in FORMS.items():
            required = [names.correlation, names.topic]
            if form == "Binary":
                required += [headers.CONTENT_TYPE, headers.HEAD_LENGTH]
            terms = form_headers(form, meanings) | described(REQUEST_FORMS, meanings)
            found[f"{dialect}Request{form}"] = {
                "summary": f"A request in dialect {dialect}, {content_type}.",
                "contentType": content_type,
                "correlationId": {"location": f"$message.header#/{names.correlation}"},
                "headers": {
                    "type": "object",
                    "properties": routing | terms,
                    "required": required,
                },
                "payload": ref("schemas", "Request" if form == "Json" else "Binary"),
            }
    return found


def reply_messages(meanings):
    """Outputs in both forms, and the refusal."""
    found = {}
    correlations = {
        names.correlation: {**CORRELATION, "description": f"Of a request in dialect {dialect}."}
        for dialect, names in ROUTING.items()
    }
    for name, form, payload in (
        ("replyJson", "Json", "Response"),
        ("replyBinary", "Binary", "Binary"),
        ("refusal", "Json", "Error"),
    ):
        own = form_headers(form, meanings) | described(REPLY_FORMS, meanings)
        ok = {"const": Status.OK.value}
        own[reply.STATUS] = own[reply.STATUS] | ({"not": ok} if payload == "Error" else ok)
        optional = {headers.TRACEPARENT, headers.TRACESTATE}
        found[name] = {
            "contentType": FORMS[form],
            "correlationId": {"location": f"$message.header#/{headers.CORRELATION_ID}"},
            "headers": {
                "type": "object",
                "properties": correlations | own,
                "required": [header for header in own if header not in optional],
                "oneOf": [{"required": [correlation]} for correlation in correlations],
            },
            "payload": ref("schemas", payload),
        }
    return found


def dead_letter_message(meanings):
    """A record that nobody could answer, or that a model failed on."""
    return {
        "summary": "The record's key, value and headers untouched, and these headers added.",
        "headers": {
            "type": "object",
            "properties": described(LETTER_FORMS, meanings),
            "required": [name for name in LETTER_FORMS if name != dead_letter.DIALECT],
        },
        "payload": {"description": "The value of the request, as it came."},
    }


def announcement_message(rows):
    """What a worker says of itself; *rows*: the table of its members in the document."""
    meanings = {row[0].strip("`"): row[2].replace("`", "") for row in rows}
    names = [field.name for field in fields(Announcement)]
    assert set(names) == set(meanings), f"Announcement has {names}, the table {sorted(meanings)}"
    optional = {row[0].strip("`") for row in rows if row[1].endswith("optional")}
    forms = dict.fromkeys(names, TEXT)
    for name in ("batch_rows_max", "since_ms", "sent_ms"):
        forms[name] = {"type": "integer", "minimum": 0}
    forms["guarantee"] = {"type": "string", "enum": list(GUARANTEES)}
    forms["interval_seconds"] = {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": limits.ANNOUNCE_SECONDS_MAX,
    }
    forms["rate_per_second"] = {"type": "number", "minimum": 0}
    forms["model_sha256"] = TEXT | {"pattern": "^[0-9a-f]{64}$"}
    forms["partitions"] = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    shape = {"type": "array", "maxItems": limits.AXES_MAX, "items": {"type": "integer"}}
    datatype = {"type": "string", "enum": [datatype.value for datatype in Datatype]}
    tensor = {
        "type": "object",
        "properties": {"name": TEXT, "datatype": datatype, "shape": shape},
        "required": ["name", "datatype", "shape"],
    }
    tensors = {"type": "array", "maxItems": limits.TENSORS_MAX, "items": tensor}
    forms["inputs"] = forms["outputs"] = tensors
    return {
        "summary": "A worker says that it is there; without a value, that it has left.",
        "contentType": FORMS["Json"],
        "headers": {"type": "object", "properties": {}, "required": []},
        "payload": {
            "type": "object",
            "properties": described(forms, meanings),
            "required": [name for name in names if name not in optional],
        },
    }


def channel(address, description, messages):
    """A channel of a model's or a service's own."""
    made = {"address": address, "description": description}
    if address and "{" in address:
        made["parameters"] = {"model": {"description": "The model's name."}}
    return made | {"messages": {name: ref("messages", name) for name in messages}}


def build(text):
    """The whole document; *text* is docs/contract.md."""
    requests = request_messages(words(text, "Request headers"))
    replies = reply_messages(words(text, "Reply headers"))
    letter = dead_letter_message(words(text, "Dead letters"))
    announcement = announcement_message(table(text, "Announcements"))
    statuses = "; ".join(f"{row[0]} {row[2]}" for row in table(text, "Statuses"))
    group = {"type": "string", "pattern": "^ondemand\\."}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Model-on-Demand: a worker",
            "version": "1.0.0",
            "description": "A worker receives prediction requests and answers each one where it "
            f"asks to be answered. docs/contract.md has the rules. Statuses: {statuses}.",
        },
        "defaultContentType": FORMS["Json"],
        "channels": {
            "requests": channel(f"{{model}}.{REQUESTS}", "Requests to one model.", requests),
            "replies": channel(
                None, f"Named by each request; by default `<service>.{REPLIES}`.", replies
            ),
            "deadLetters": channel(
                f"{{model}}.{DEAD_LETTERS}", "What could not be answered or failed.", ["deadLetter"]
            ),
            "workers": channel(WORKERS, "Who is there, one word a worker.", ["announcement"]),
        },
        "operations": {
            "predict": {
                "action": "receive",
                "channel": {"$ref": "#/channels/requests"},
                "summary": "Take a request and answer it, once.",
                "bindings": {"kafka": {"groupId": group, "bindingVersion": "0.5.0"}},
                "reply": {
                    "address": {"location": f"$message.header#/{headers.REPLY_TOPIC}"},
                    "channel": {"$ref": "#/channels/replies"},
                    "messages": [{"$ref": f"#/channels/replies/messages/{n}"} for n in replies],
                },
            },
            "giveUp": {
                "action": "send",
                "channel": {"$ref": "#/channels/deadLetters"},
                "summary": "Keep what could not be answered, or what a model failed on.",
            },
            "announce": {
                "action": "send",
                "channel": {"$ref": "#/channels/workers"},
                "summary": "Say every few seconds that this worker is there.",
            },
        },
        "components": {
            "messages": requests | replies | {"deadLetter": letter, "announcement": announcement},
            "schemas": schemas(),
        },
    }
