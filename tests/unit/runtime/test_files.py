"""Files of a worker folder: only those inside it, only as they were promised."""

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.errors import ConfigurationError
from ondemand.runtime.files import digest, read_checked, read_file


def test_what_has_the_promised_digest_is_returned(tmp_path):
    """The bytes that were compared are the bytes that come back."""
    (tmp_path / "model.onnx").write_bytes(b"model")
    assert read_checked(tmp_path, "model.onnx", hashlib.sha256(b"model").hexdigest()) == b"model"


def test_another_digest_is_refused_and_both_are_named(tmp_path):
    """A person must be able to tell whether the file or the manifest is wrong."""
    (tmp_path / "model.onnx").write_bytes(b"other")
    with pytest.raises(ConfigurationError, match=digest(b"other")) as caught:
        read_checked(tmp_path, "model.onnx", digest(b"model"))
    assert digest(b"model") in str(caught.value)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", ".", "a\\..\\b"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    """A manifest names files of its own folder only."""
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "worker"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match="inside the worker folder"):
        read_file(folder, name)


@given(name=st.text(min_size=1, max_size=30))
def test_no_name_reads_what_lies_outside(tmp_path_factory, name):
    """Whatever the name, the file beside the folder is not read."""
    root = tmp_path_factory.mktemp("root")
    (root / "secret").write_bytes(b"secret")
    (root / "worker").mkdir()
    with pytest.raises((ConfigurationError, ValueError)):
        read_file(root / "worker", name)


def test_a_symbolic_link_is_refused(tmp_path):
    """What it points to can be changed from elsewhere."""
    (tmp_path / "real").write_bytes(b"model")
    (tmp_path / "model.onnx").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        read_file(tmp_path, "model.onnx")


def test_a_folder_on_the_way_that_is_a_symbolic_link_is_refused(tmp_path):
    """Also a linked folder leads out."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model.onnx").write_bytes(b"model")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        read_file(tmp_path, "linked/model.onnx")


def test_a_hard_link_is_refused(tmp_path):
    """Its other name lies outside of what the folder's owner controls."""
    (tmp_path / "other").write_bytes(b"model")
    os.link(tmp_path / "other", tmp_path / "model.onnx")
    with pytest.raises(ConfigurationError, match="hard link"):
        read_file(tmp_path, "model.onnx")


def test_a_pipe_is_refused_and_nobody_waits_for_it(tmp_path):
    """Opening a pipe would wait for a writer for ever."""
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        read_file(tmp_path, "model.onnx")


def test_a_missing_file_is_named(tmp_path):
    """The message says which file, and the system's reason."""
    with pytest.raises(ConfigurationError, match=r"model\.onnx cannot be read: No such file"):
        read_file(tmp_path, "model.onnx")
