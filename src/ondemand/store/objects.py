"""Objects under one prefix of any file system that fsspec knows. The only module that imports it.

Every call blocks for as long as the store takes, and may be made in any thread. Foreign exceptions
stop here.
"""

from typing import Any

from ondemand.errors import ConfigurationError, ObjectMissingError, StoreError

_LOCAL = ("file://", "local://")


class ObjectStore:
    """What lies under *url*. Keys are trusted here: whoever gets one from outside checks it first.

    Raises ``ConfigurationError`` where what the URL needs is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra, and only where it is used
        except ImportError as error:
            raise ConfigurationError(
                f'claim_store = {url!r}: fsspec is not installed: pip install "ondemand[claim]"'
            ) from error
        # Folders are a local matter: object stores have none.
        options = {"auto_mkdir": True} if url.startswith(_LOCAL) else {}
        try:
            self._files, root = url_to_fs(url, **options)
        except Exception as error:  # each file system raises its own
            raise ConfigurationError(
                f"claim_store = {url!r} cannot be used: {_one_line(error)}"
            ) from error
        self._root = root.rstrip("/")
        self._url = url

    def __repr__(self) -> str:
        return f"<ObjectStore {self._url}>"

    def write(self, key: str, content: bytes) -> None:
        """Keep *content* under *key*. Raises ``StoreError``."""
        self._call("write", self._files.pipe_file, key, content)

    def read(self, key: str, bytes_max: int) -> bytes:
        """What is under *key*; of something larger, one byte more than *bytes_max*.

        Raises ``ObjectMissingError`` where nothing is, ``StoreError`` where it cannot be read.
        """
        content: bytes = self._call("read", self._files.cat_file, key, start=0, end=bytes_max + 1)
        return content

    def delete(self, key: str) -> None:
        """Remove what is under *key*. Raises ``StoreError``, also where nothing is."""
        self._call("delete", self._files.rm_file, key)

    def _call(self, what: str, call: Any, key: str, *values: Any, **named: Any) -> Any:
        try:
            return call(f"{self._root}/{key}", *values, **named)
        except FileNotFoundError as error:
            raise ObjectMissingError(f"there is no object {key!r}") from error
        except Exception as error:  # each file system raises its own
            raise StoreError(f"cannot {what} {key!r}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
