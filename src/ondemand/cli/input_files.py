"""Files of people as inputs of a model: JSON, NumPy arrays, pictures, or any file as it is."""

import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ondemand.cli.pictures import picture_array
from ondemand.cli.recipe import Form, InputFileError, KnownInput, Recipe
from ondemand.contract.codec import decode_request
from ondemand.contract.tensor import DTYPES, Datatype, Tensor
from ondemand.errors import RequestError
from ondemand.runtime.base import TensorSpec
from ondemand.runtime.manifest import MANIFEST

STANDARD_INPUT: Final = "-"
FILE_BYTES_MAX: Final = 100_000_000
"""A file that is read as a whole: a picture may be large, and is made small before it is sent."""

Array = NDArray[Any]
Inputs = dict[str, Any]


def read_inputs(file: str, how: Recipe) -> Inputs:
    """The model's inputs from *file*; ``-`` is standard input.

    Raises ``InputFileError`` that begins with the file's name.
    """
    form = how.form
    if form is Form.RAW or (form is None and how.takes_files):
        return _raw(file, how)
    content = _content(file)
    form = form or _form(file, content)
    return _READERS[form](file, content, how)


def _raw(file: str, how: Recipe) -> Inputs:
    """The file as it is, as one element; of a long one only what the model looks at."""
    known = how.single(file, "a file as it is")
    if known.datatype not in {None, Datatype.BYTES}:
        raise InputFileError(
            f"{file}: {known.name} takes {known.datatype}, not BYTES: a file as it is cannot be one"
        )
    element = np.empty(1, dtype=object)
    element[0] = _excerpt(file, known.excerpt_bytes)
    return {known.name: element}


def _excerpt(file: str, excerpt_bytes: int | None) -> bytes:
    """The content, or the first and the last *excerpt_bytes* of it where it is longer."""
    if excerpt_bytes is not None and file != STANDARD_INPUT:
        try:
            return excerpt(Path(file), excerpt_bytes)
        except OSError as error:
            raise _unreadable(file, error) from error
    content = _content(file)
    return content if excerpt_bytes is None else shortened(content, excerpt_bytes)


def shortened(content: bytes, excerpt_bytes: int) -> bytes:
    """*content*, or its first and last *excerpt_bytes* where it is longer than both."""
    if len(content) <= 2 * excerpt_bytes:
        return content
    return content[:excerpt_bytes] + content[-excerpt_bytes:]


def excerpt(path: Path, excerpt_bytes: int) -> bytes:
    """As ``shortened``, of a file; what lies between is not read. Raises ``OSError``."""
    with path.open("rb") as opened:
        size = opened.seek(0, io.SEEK_END)
        opened.seek(0)
        if size <= 2 * excerpt_bytes:
            return opened.read()
        head = opened.read(excerpt_bytes)
        opened.seek(-excerpt_bytes, io.SEEK_END)
        return head + opened.read(excerpt_bytes)


def _content(file: str) -> bytes:
    """All bytes of *file*, within ``FILE_BYTES_MAX``."""
    try:
        if file == STANDARD_INPUT:
            content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(file, error) from error
    if len(content) > FILE_BYTES_MAX:
        raise InputFileError(f"{file}: more than {FILE_BYTES_MAX:,} bytes, and is read as a whole")
    return content


def _unreadable(file: str, error: OSError) -> InputFileError:
    if isinstance(error, FileNotFoundError):
        return InputFileError(f"{file}: there is no such file")
    return InputFileError(f"{file}: cannot be read: {error.strerror or error}")


def _form(file: str, content: bytes) -> Form:
    """By the file's name where that says it, otherwise by how the content begins."""
    suffix = Path(file).suffix.lower().removeprefix(".")
    if suffix in {Form.JSON, Form.NPY, Form.NPZ}:
        return Form(suffix)
    if content.startswith(b"\x93NUMPY"):
        return Form.NPY
    if content.startswith(b"PK\x03\x04"):
        return Form.NPZ
    if content.lstrip().startswith(b"{"):
        return Form.JSON
    return Form.PICTURE


def _from_json(file: str, content: bytes, how: Recipe) -> Inputs:
    """A V2 request body, or plainly ``{"NAME": [[…]]}``."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{file}: not JSON: {error}") from error
    if not isinstance(document, dict) or not document:
        raise InputFileError(
            f'{file}: expected a JSON object, a V2 request body or {{"NAME": [[…]]}}'
        )
    if isinstance(document.get("inputs"), list):
        try:
            return {tensor.name: tensor for tensor in decode_request(content, None).inputs}
        except RequestError as error:
            raise InputFileError(f"{file}: {error.message}") from error
    return {name: _listed(file, name, value, how) for name, value in document.items()}


def _listed(file: str, name: str, value: object, how: Recipe) -> Array | Tensor:
    """Nested lists as an array of the datatype that the model takes."""
    known = how.known(name)
    try:
        if known is not None and known.datatype is Datatype.BYTES:
            texts = np.array(value, dtype=object)
            array = np.vectorize(_as_bytes, otypes=[object])(texts) if texts.size else texts
        else:
            array = np.array(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputFileError(f"{file}: {name}: not a regular array: {error}") from error
    return _fitted(file, known or KnownInput(name), array)


def _as_bytes(element: object) -> bytes:
    if not isinstance(element, str):
        raise TypeError(f"expected text, found {element!r}")
    return element.encode()


def _from_npy(file: str, content: bytes, how: Recipe) -> Inputs:
    known = how.single(file, "one array")
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputFileError(f"{file}: not a .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputFileError(f"{file}: holds several arrays; name it .npz, or say --as npz")
    return {known.name: _fitted(file, known, array)}


def _from_npz(file: str, content: bytes, how: Recipe) -> Inputs:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            named = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputFileError(f"{file}: not a .npz file: {error}") from error
    if not named:
        raise InputFileError(f"{file}: has no arrays in it")
    return {
        name: _fitted(file, how.known(name) or KnownInput(name), array)
        for name, array in named.items()
    }


def _from_picture(file: str, content: bytes, how: Recipe) -> Inputs:
    known = how.single(file, "a picture")
    if known.image is None or known.shape is None or known.datatype is None:
        raise InputFileError(
            f"{file}: {known.name} takes no pictures; a .json, .npy or .npz file fits (what a "
            f"picture becomes is said in {MANIFEST}, under [inputs.image])"
        )
    try:
        array = picture_array(content, known.image, known.shape[1:])
    except ValueError as error:
        raise InputFileError(f"{file}: {error}") from error
    return {known.name: array.astype(DTYPES[known.datatype])}


_READERS: Final[Mapping[Form, Callable[[str, bytes, Recipe], Inputs]]] = {
    Form.JSON: _from_json,
    Form.NPY: _from_npy,
    Form.NPZ: _from_npz,
    Form.PICTURE: _from_picture,
}


def _fitted(file: str, known: KnownInput, array: Array) -> Array:
    """*array* with the model's datatype, and with an axis for rows where only that is missing.

    Raises ``InputFileError`` where the shape or the datatype cannot be the model's.
    """
    shape = known.shape
    if shape and len(array.shape) == len(shape) - 1 and shape[0] is None:
        array = array[np.newaxis]
    if shape is not None and not _fits(array.shape, shape):
        takes = TensorSpec(known.name, known.datatype or Datatype.BYTES, shape)
        raise InputFileError(
            f"{file}: {known.name} has the shape {list(array.shape)}; the model takes {takes}"
        )
    if known.datatype in {None, Datatype.BYTES}:
        return array
    wanted = DTYPES[known.datatype]
    # Whole numbers may become any others that can hold them; a fraction is never cut off.
    whole = array.dtype.kind in "iub" and wanted.kind in "iu"
    if not whole and not np.can_cast(array.dtype, wanted, casting="same_kind"):
        raise InputFileError(
            f"{file}: {known.name} has numbers of type {array.dtype}; the model takes "
            f"{known.datatype}"
        )
    cast = array.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(cast, array):
        raise InputFileError(f"{file}: {known.name} has numbers that {known.datatype} cannot hold")
    return cast


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        axis is None or axis == length for length, axis in zip(shape, wanted, strict=True)
    )
