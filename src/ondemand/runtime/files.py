"""The files of a worker folder: read once, and trusted only by their SHA-256.

What is checked is what is used: the bytes whose digest was compared are handed on, and nothing is
opened a second time.
"""

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath

from ondemand.errors import ConfigurationError


def digest(content: bytes) -> str:
    """The SHA-256 of *content*, in lower-case hex, as manifests state it."""
    return hashlib.sha256(content).hexdigest()


def read_checked(folder: Path, name: str, sha256: str) -> bytes:
    """The bytes of *name* in *folder*, if they have the digest *sha256*.

    Raises ``ConfigurationError`` for a name that leads out of the folder, for anything but a
    regular file of its own (symbolic and hard links can be changed from elsewhere), and for another
    digest, which the message states.
    """
    content = read_file(folder, name)
    found = digest(content)
    if found != sha256:
        raise ConfigurationError(
            f"{name} has the SHA-256 {found}, the manifest promises {sha256}; "
            "if the file is the one that was meant, put its digest into the manifest"
        )
    return content


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of *name* in *folder*. Raises ``ConfigurationError`` as ``read_checked`` does."""
    path = _inside(folder, name)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{name} is not a regular file")
        if status.st_nlink != 1:
            raise ConfigurationError(
                f"{name} is a hard link ({status.st_nlink} names for one file); copy it instead"
            )
        return file.read()


def _inside(folder: Path, name: str) -> Path:
    """The path of *name*, which must be a plain relative path with no link on its way."""
    relative = PurePosixPath(name)
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise ConfigurationError(f"{name!r} must be the path of a file inside the worker folder")
    path = folder.joinpath(*relative.parts)
    walked = folder
    for part in relative.parts:
        walked /= part
        if walked.is_symlink():
            raise ConfigurationError(f"{walked.relative_to(folder)} is a symbolic link; copy it")
    return path
