"""Files as inputs: what is read how, and what is said of a file that cannot be one."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ondemand.cli.input_files import excerpt, read_inputs, shortened
from ondemand.cli.pictures import picture_array
from ondemand.cli.recipe import Form, InputFileError, KnownInput, Recipe, recipe
from ondemand.contract.tensor import Datatype
from ondemand.runtime.manifest import ImageSpec

PICTURES = ImageSpec(width=4, height=2, minimum=0.0, maximum=16.0, invert=True)
IMAGE = KnownInput("image", Datatype.FP32, (None, 8), image=PICTURES)
DIGITS = Recipe("digits", (IMAGE,))
PAIR = Recipe(
    "pair",
    (KnownInput("a", Datatype.INT8, (None, 2)), KnownInput("b", Datatype.BYTES, (None,))),
)
FILETYPE = Recipe("filetype", (KnownInput("content", Datatype.BYTES, (None,), excerpt_bytes=4),))
UNKNOWN = Recipe("unknown")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(file: str, how: Recipe) -> str:
    """What is said of a file."""
    with pytest.raises(InputFileError) as told:
        read_inputs(file, how)
    return str(told.value)


def png(pixels: np.ndarray) -> bytes:
    """A picture file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_an_array_becomes_the_one_input_in_the_models_datatype() -> None:
    """`.npy` names no input; where the model has one, that is meant."""
    np.save("x.npy", np.arange(16, dtype=np.float64).reshape(2, 8))
    image = read_inputs("x.npy", DIGITS)["image"]
    assert image.dtype == np.float32
    assert image.shape == (2, 8)


def test_one_row_needs_no_axis_for_rows() -> None:
    """What was saved for one row is one row."""
    np.save("x.npy", np.arange(8))
    assert read_inputs("x.npy", DIGITS)["image"].shape == (1, 8)


def test_named_arrays_are_inputs_by_name() -> None:
    """`.npz` holds several."""
    np.savez("x.npz", a=np.ones((1, 2), np.int64), other=np.zeros(3))
    inputs = read_inputs("x.npz", PAIR)
    assert inputs["a"].dtype == np.int8
    assert inputs["other"].shape == (3,)


def test_plain_json_takes_the_models_datatypes() -> None:
    """Lists of numbers and texts need no datatype where the model is known."""
    Path("x.json").write_text('{"a": [[1, 2]], "b": ["\u00e9"]}', encoding="utf-8")
    inputs = read_inputs("x.json", PAIR)
    assert inputs["a"].dtype == np.int8
    assert inputs["b"].tolist() == ["\u00e9".encode()]


def test_a_v2_body_is_taken_as_it_says() -> None:
    """A body names its datatypes itself: nothing is changed."""
    tensor = {"name": "image", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}
    Path("x.json").write_text(json.dumps({"inputs": [tensor]}), encoding="utf-8")
    image = read_inputs("x.json", DIGITS)["image"]
    assert image.datatype is Datatype.FP64
    assert image.data.tolist() == [[1.0, 2.0]]


def test_any_file_is_what_a_model_for_files_takes() -> None:
    """Even a JSON file: the model wants its bytes, and of a long one only the ends."""
    Path("x.json").write_bytes(b'{"a": 1}')
    Path("long").write_bytes(b"0123456789")
    assert read_inputs("x.json", FILETYPE)["content"].tolist() == [b'{"a": 1}']
    assert read_inputs("long", FILETYPE)["content"].tolist() == [b"01236789"]


@given(content=st.binary(max_size=40), count=st.integers(1, 20))
def test_an_excerpt_of_a_file_is_that_of_its_content(content: bytes, count: int) -> None:
    """What lies between is not read, and makes no difference; both ends are whole."""
    path = Path("excerpt")
    path.write_bytes(content)
    found = excerpt(path, count)
    assert found == shortened(content, count)
    assert found[:count] == content[:count]
    assert found[-count:] == content[-count:]


def test_standard_input_is_told_by_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no name to tell its form."""
    array = io.BytesIO()
    np.save(array, np.ones((1, 8)))
    contents = [
        array.getvalue(),
        b' {"image": [[1,2,3,4,5,6,7,8]]}',
        png(np.zeros((2, 4), np.uint8)),
    ]
    for content in contents:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert read_inputs("-", DIGITS)["image"].shape == (1, 8)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"0123456789")))
    assert read_inputs("-", FILETYPE)["content"].tolist() == [b"01236789"]


def test_a_picture_becomes_a_row() -> None:
    """Scaled to the model's size and range, and turned around where ink is light."""
    Path("x.png").write_bytes(png(np.array([[0, 255]], np.uint8).repeat(8, 0).repeat(4, 1)))
    image = read_inputs("x.png", DIGITS)["image"]
    assert image.dtype == np.float32
    assert image.tolist() == [[16, 16, 0, 0, 16, 16, 0, 0]]


@pytest.mark.parametrize(
    ("shape", "result"),
    [
        ((3, 2, 4), (1, 3, 2, 4)),
        ((2, 4, 3), (1, 2, 4, 3)),
        ((24,), (1, 24)),
        ((3, None, None), (1, 3, 2, 4)),
    ],
)
def test_colours_stand_where_the_shape_has_them(
    shape: tuple[int | None, ...], result: tuple[int, ...]
) -> None:
    """Channels first or last, or all in one row."""
    wanted = ImageSpec(width=4, height=2, mode="RGB")
    red = np.zeros((2, 4, 3), np.uint8)
    red[..., 0] = 255
    array = picture_array(png(red), wanted, shape)
    assert array.shape == result
    assert array.sum() == 8 * 255


def test_what_is_transparent_is_paper() -> None:
    """A scan without a background is as one on white."""
    clear = np.zeros((2, 4, 4), np.uint8)
    assert picture_array(png(clear), ImageSpec(width=4, height=2), (8,)).tolist() == [[255] * 8]


def test_sixteen_bits_are_scaled_not_cut() -> None:
    """Half white stays half white."""
    half = np.full((2, 4), 128 * 256, np.uint16)
    assert picture_array(png(half), ImageSpec(width=4, height=2), (8,)).tolist() == [[128] * 8]


@pytest.mark.parametrize(
    ("content", "how", "told"),
    [
        (None, DIGITS, "there is no such file"),
        (b"neither", DIGITS, "cannot be read as a picture (no known format)"),
        (b"\x93NUMPY", DIGITS, "not a .npy file"),
        (b"PK\x03\x04", DIGITS, "not a .npz file"),
        (b"{oops", DIGITS, "not JSON"),
        (b"{}", DIGITS, "expected a JSON object"),
        (b'{"inputs": [{}]}', DIGITS, "the `name` of a tensor must be text"),
        (b'{"image": [[1], [2, 3]]}', DIGITS, "image: not a regular array"),
        (
            b'{"image": [[1, 2]]}',
            DIGITS,
            "image has the shape [1, 2]; the model takes image: FP32[",
        ),
        (b'{"a": [[1, 300]]}', PAIR, "a has numbers that INT8 cannot hold"),
        (b'{"a": [[1, 2.5]]}', PAIR, "a has numbers of type float64; the model takes INT8"),
        (b'{"b": [1]}', PAIR, "b: not a regular array: expected text"),
        (png(np.zeros((2, 4), np.uint8)), PAIR, "pair has several (a, b)"),
        (png(np.zeros((2, 4), np.uint8)), UNKNOWN, "--input NAME[:DATATYPE]"),
        (b"x", Recipe("m", (KnownInput("x"),)), "x takes no pictures"),
        (b"x", Recipe("m", (KnownInput("x", Datatype.FP32),), Form.RAW), "x takes FP32, not BYTES"),
    ],
)
def test_a_bad_file_is_told_in_one_line(content: bytes | None, how: Recipe, told: str) -> None:
    """The file first, then what is wrong with it."""
    if content is not None:
        Path("x").write_bytes(content)
    line = refused("x", how)
    assert line.startswith("x: ")
    assert told in line
    assert "\n" not in line


def test_pickled_arrays_are_refused() -> None:
    """Reading a file must never run what is in it."""
    np.save("x.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "not a .npy file" in refused("x.npy", DIGITS)


def test_a_folder_is_no_file() -> None:
    """As any file that cannot be read."""
    Path("folder").mkdir()
    assert refused("folder", DIGITS) == "folder: cannot be read: Is a directory"


MANIFEST = """\
name = "digits"
version = "1.0.0"
[model]
file = "model.onnx"
sha256 = "{}"
[[inputs]]
name = "image"
datatype = "FP32"
shape = [-1, 8]
[[outputs]]
name = "label"
datatype = "INT64"
shape = [-1]
""".format("0" * 64)


def test_the_model_is_known_from_its_worker_folder() -> None:
    """`workers/MODEL` here, or the folder that was named."""
    for folder in (Path("workers/digits"), Path("elsewhere")):
        folder.mkdir(parents=True)
        (folder / "worker.toml").write_text(MANIFEST, encoding="utf-8")
    here = recipe("digits", worker=None, named=None, form=None, folder=Path())
    named = recipe("other", worker=Path("elsewhere"), named=None, form=None, folder=Path())
    assert here.inputs == named.inputs == (KnownInput("image", Datatype.FP32, (None, 8)),)
    assert recipe("other", worker=None, named=None, form=None, folder=Path()).inputs == ()


@pytest.mark.parametrize(
    ("named", "known"),
    [
        ("x", KnownInput("x")),
        ("x:fp16", KnownInput("x", Datatype.FP16)),
        ("ns:x:BYTES", KnownInput("ns:x", Datatype.BYTES)),
    ],
)
def test_an_input_can_be_named(named: str, known: KnownInput) -> None:
    """Where no manifest is at hand; a name may have a colon of its own."""
    assert recipe("m", worker=None, named=named, form=None, folder=Path()).inputs == (known,)


def test_a_named_input_must_be_one() -> None:
    """A typing error in `--input` is told, with what there is."""
    with pytest.raises(InputFileError, match="'FLOAT' is no datatype; there are BOOL, "):
        recipe("m", worker=None, named="x:FLOAT", form=None, folder=Path())
    folder = Path("workers/digits")
    folder.mkdir(parents=True)
    (folder / "worker.toml").write_text(MANIFEST, encoding="utf-8")
    with pytest.raises(InputFileError, match="no input 'imag'; it takes image"):
        recipe("digits", worker=None, named="imag", form=None, folder=Path())
