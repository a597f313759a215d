"""What people and scripts see of dead letters, and what they do not."""

import json

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from unit.cli.letters import ADDRESS, NOW_MS, letter

from ondemand.cli.deadletters_filter import Filter
from ondemand.cli.deadletters_view import (
    PAYLOAD_SHOWN_BYTES_MAX,
    REASONS_SHOWN_MAX,
    letter_data,
    letter_table,
    list_table,
    newest,
    plain,
    row_of,
    shown_payload,
    shown_value,
)


def printed(table) -> str:
    """*table* as it reaches a pipe."""
    console = Console(width=200, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 12))
def test_a_list_holds_the_newest_in_order(times, limit):
    """No more rows than the limit, and none that is older than one left out."""
    letters = [letter(offset, time_ms=time) for offset, time in enumerate(times)]
    found = newest(letters, Filter(since_ms=5), limit)
    matching = sorted(time for time in times if time >= 5)
    assert [row.time_ms for row in found.rows] == matching[-limit:]
    assert (found.matched, found.read) == (len(matching), len(times))


def test_reasons_are_counted_within_bounds():
    """Whoever can write to the topic can invent reasons, not a memory's worth of them."""
    letters = [letter(offset, reason=f"r{offset}") for offset in range(1000)]
    reasons = newest(letters, Filter(), 1).reasons
    assert len(reasons) == REASONS_SHOWN_MAX + 1
    assert sum(reasons.values()) == 1000


@given(st.text())
def test_no_control_character_reaches_the_terminal(text):
    """What strangers wrote moves no cursor and begins no line."""
    assert plain(text).isprintable()


@given(st.none() | st.binary(max_size=20))
def test_a_header_is_text_or_hex(value):
    """Printable UTF-8 as it is, everything else so that its bytes can be read."""
    shown = shown_value(value)
    assert shown.isprintable()
    if value is not None and shown != value.decode("utf-8", "replace"):
        assert bytes.fromhex(shown.removeprefix("hex ")) == value


def test_payloads_are_shown_only_on_demand():
    """Keys and values can be personal data."""
    found = letter(value=b"secret-value")
    for shown in (
        printed(letter_table(found, payload=False)),
        json.dumps(letter_data(found, payload=False)),
        printed(list_table([row_of(found)])),
    ):
        assert "secret-value" not in shown
        assert "b2V0" not in shown
    assert "3 bytes, not shown" in printed(letter_table(found, payload=False))
    assert "12 bytes: secret-value" in printed(letter_table(found, payload=True))
    assert letter_data(found, payload=True)["value_base64"] == "c2VjcmV0LXZhbHVl"


def test_a_large_payload_is_cut():
    """A screen, not a megabyte; and it says so."""
    shown = shown_payload(b"x" * 10**6, payload=True)
    assert shown.startswith("1000000 bytes, cut")
    assert len(shown) < PAYLOAD_SHOWN_BYTES_MAX + 100
    assert shown_payload(None, payload=True) == "null"
    assert shown_payload(b"\xff", payload=True) == "1 bytes: hex ff"


def test_everything_about_one_is_shown():
    """All headers, the worker's and the caller's; null and binary ones too."""
    found = letter(headers=(*ADDRESS, ("none", None), ("raw", b"\x1b[2J")))
    text = printed(letter_table(found, payload=False))
    for part in ("0:0", "2027-01-15T08:00:00.000Z", "model-error", "m.requests/0/0", "m/1.0.0"):
        assert part in text
    assert "\x1b" not in text
    assert "hex 1b5b324a" in text
    data = letter_data(found, payload=False)
    assert {"name": "none", "text": None} in data["headers"]
    assert {"name": "raw", "hex": "1b5b324a"} in data["headers"]
    assert (data["time_ms"], data["key_bytes"], data["value_bytes"]) == (NOW_MS, 3, 2)
