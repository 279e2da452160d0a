"""Decoding: photographs of any size and mode become *canvases*, square uint8 images of one size."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

TRANSFORM = {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}  # `decode`, in timm's words
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(file: dict, size: int, in_chans: int) -> np.ndarray | None:
    """Decode one photograph, resize its shorter side to `size` and crop the centre.

    Args:
        file: {"path", "bytes"}, as in `datasets.Image(decode=False)`.
        size: side of the canvas in pixels.
        in_chans: 1 for grey, 3 for RGB.

    Returns:
        (in_chans, size, size) uint8; None if the file is no readable image.
    """
    try:
        with Image.open(io.BytesIO(file["bytes"]) if file["bytes"] else file["path"]) as image:
            # A large JPEG is decoded at a fraction of its size, which is faster.
            image.draft("L" if in_chans == 1 else "RGB", (2 * size, 2 * size))
            image = as_photograph(image, in_chans)
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    except UNREADABLE:
        return None
    return np.asarray(image).reshape(size, size, in_chans).transpose(2, 0, 1)


def as_photograph(image: Image.Image, in_chans: int) -> Image.Image:
    """Rotate an image by its EXIF orientation and convert it to 8 bits, grey (`in_chans` 1) or RGB (3)."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would clip 16-bit levels at 255
        image = image.point(lambda level: level / 257)
    return image.convert("L" if in_chans == 1 else "RGB")


def read_content(file: dict) -> bytes:
    """The undecoded bytes of {"path", "bytes"}, of which one may be None."""
    return file["bytes"] or Path(file["path"]).read_bytes()


def decode_all(files: list[dict], size: int, in_chans: int) -> list[np.ndarray | None]:
    """`decode` many photographs on all cores; None for each unreadable file."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda file: decode(file, size, in_chans), files))
