"""Object storage by fsspec: two real file systems, one promise."""

import sys
from uuid import uuid4

import pytest

from ondemand.errors import ConfigurationError, ObjectMissingError, StoreError
from ondemand.store.objects import ObjectStore

KEY = "digits.requests/2026-01-31/" + "0" * 32


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    """An empty store in a folder, and in memory."""
    places = {"file": f"file://{tmp_path}/claims", "memory": f"memory://{uuid4().hex}"}
    return ObjectStore(places[request.param])


def test_what_is_written_is_read_and_deleted(store):
    """Byte for byte; and then it is gone."""
    content = bytes(range(256)) * 1_000
    store.write(KEY, content)
    assert store.read(KEY, len(content)) == content
    store.delete(KEY)
    with pytest.raises(ObjectMissingError, match=KEY):
        store.read(KEY, 1)


def test_no_more_is_read_than_was_asked_for(store):
    """An object that is larger than its request says costs one byte more than that."""
    store.write(KEY, b"x" * 100_000)
    assert store.read(KEY, 10) == b"x" * 11


def test_what_is_not_there_is_missing(store):
    """Reading and deleting say the same."""
    for call in (lambda: store.read(KEY, 1), lambda: store.delete(KEY)):
        with pytest.raises(ObjectMissingError):
            call()


def test_a_store_that_cannot_be_read_is_no_missing_object(tmp_path):
    """A caller must not be blamed for it."""
    store = ObjectStore(f"file://{tmp_path}")
    (tmp_path / KEY).mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot read") as caught:
        store.read(KEY, 1)
    assert not isinstance(caught.value, ObjectMissingError)


def test_an_unknown_file_system_is_named():
    """The operator has to find the setting."""
    with pytest.raises(ConfigurationError, match=r"claim_store = 'nosuch://x' cannot be used"):
        ObjectStore("nosuch://x")


def test_without_fsspec_the_error_says_what_to_install(monkeypatch):
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigurationError, match=r"ondemand\[claim\]"):
        ObjectStore("memory://x")
