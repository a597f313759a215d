"""A picture as the tensor that a model takes, as its manifest says (``[inputs.image]``)."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ondemand.runtime.manifest import ImageSpec


def picture_array(
    content: bytes, wanted: ImageSpec, shape: tuple[int | None, ...]
) -> NDArray[np.float64]:
    """One row: the picture scaled to the wanted size, with values from ``minimum`` (black) to
    ``maximum`` (white), or the reverse where ``invert``. Turned upright as its camera says; what is
    transparent counts as white.

    *shape* is the row's: ``(64,)``, ``(8, 8)``, ``(1, 8, 8)``, ``(3, 8, 8)`` or ``(8, 8, 3)``.
    Raises ``ValueError`` for what is no picture.
    """
    pixels = _pixels(content, wanted)
    if wanted.mode == "RGB" and len(shape) == 3 and shape[0] == 3 and shape[2] != 3:
        pixels = pixels.transpose(2, 0, 1)  # channels first
    if wanted.invert:
        pixels = 255.0 - pixels
    scaled = wanted.minimum + pixels / 255.0 * (wanted.maximum - wanted.minimum)
    row = tuple(-1 if axis is None else axis for axis in shape)
    if row.count(-1) > 1:  # sizes are free: the picture's own
        return scaled[np.newaxis]
    return scaled.reshape(1, *row)


def _pixels(content: bytes, wanted: ImageSpec) -> NDArray[np.float64]:
    """Height x width, with RGB x 3; 0 is black, 255 white."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture: Image.Image = _flat(ImageOps.exif_transpose(opened))
            scaled = picture.convert(wanted.mode).resize(
                (wanted.width, wanted.height), _filter(picture, wanted)
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read as a picture ({_reason(error)})") from error
    return np.asarray(scaled, dtype=np.float64)


def _flat(picture: Image.Image) -> Image.Image:
    """Eight bits a channel, and on white where it is transparent."""
    if picture.mode.startswith("I"):  # 16 bits: `convert` would cut off, not scale
        wide: NDArray[Any] = np.asarray(picture)
        return Image.fromarray((wide >> 8).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return picture


def _filter(picture: Image.Image, wanted: ImageSpec) -> Image.Resampling:
    """Averages where a picture shrinks, so that thin strokes stay; smooth where it grows."""
    if picture.width >= wanted.width and picture.height >= wanted.height:
        return Image.Resampling.BOX
    return Image.Resampling.BICUBIC


def _reason(error: Exception) -> str:
    return "no known format" if "cannot identify" in str(error) else str(error)
