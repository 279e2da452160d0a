"""Damaged photographs of every format that Pillow writes: an array, or None, and no exception."""

import io
import warnings

import numpy as np
from hypothesis import strategies as st
from PIL import Image, ImageCms

from campaign import FINE, REFUSED
from dtram_hub.data import canvas

SIDE = 32
LARGEST = 200_000  # pixels; a damaged header may claim many more, which would only take time
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")
OPTIONS = {"TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}], "GIF": [{}, {"interlace": 1}]}
NUMBERS = [0, 1, 2, 7, 127, 255, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1]


def _noise(mode: str, width: int, height: int) -> Image.Image:
    """An image in half of the levels around the middle of their range."""
    levels = np.random.default_rng(0).uniform(0.25, 0.75, (height, width, 3))
    if mode in ("I;16", "I", "F"):
        scale, kind = {"I;16": (65_535, np.uint16), "I": (65_535, np.int32), "F": (1, np.float32)}[mode]
        return Image.fromarray((scale * levels[..., 0]).astype(kind))
    image = Image.fromarray((255 * levels).astype(np.uint8))
    if mode == "LAB":
        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    return image.convert(mode)


def _saved() -> dict[str, bytes]:
    """One file for every format, mode and option that Pillow takes, by a name for messages."""
    Image.init()
    found = {}
    for kind in sorted(set(Image.SAVE) & set(Image.OPEN) - {"EPS"}):
        for mode in MODES:
            for number, options in enumerate(OPTIONS.get(kind, [{}])):
                for size in ((12, 9), (2, 60)):
                    buffer = io.BytesIO()
                    try:
                        _noise(mode, *size).save(buffer, kind, **options)
                    except Exception:  # this format has no such mode
                        continue
                    if mode[0] in "IF" and Image.open(buffer).mode[0] not in "IF":
                        continue  # saving has clipped the levels
                    found[f"{kind} {mode} {number} {size}"] = buffer.getvalue()
    return found


FILES = _saved()
NAMES = list(FILES)
ALL = 10**6  # bytes, more than any of the files has
TAILS = st.builds(lambda name, start: FILES[name][start:], st.sampled_from(NAMES), st.integers(0, 300))
PIECES = st.one_of(  # the number of bytes that go, and the bytes that come instead
    st.tuples(st.just(ALL), st.just(b"")),
    st.tuples(st.just(ALL), TAILS),
    st.tuples(st.integers(1, 20), st.just(b"")),
    st.tuples(st.just(1), st.binary(min_size=1, max_size=1)),
    st.tuples(st.just(2), st.sampled_from([(number & 0xFFFF).to_bytes(2, "little") for number in NUMBERS])),
    st.tuples(st.just(4), st.sampled_from([number.to_bytes(4, "big") for number in NUMBERS])),
)
PLACES = st.one_of(st.integers(0, 200), st.floats(0, 1))  # an offset, since headers are short, or a share
CASES = st.tuples(
    st.sampled_from(NAMES), st.lists(st.tuples(PLACES, PIECES), max_size=4), st.sampled_from((1, 3))
)


def changed(content: bytes, changes: list[tuple[int | float, tuple[int, bytes]]]) -> bytes:
    """The content of a file after some changes."""
    for place, (gone, instead) in changes:
        start = place if isinstance(place, int) else int(place * len(content))
        content = content[:start] + instead + content[start + gone :]
    return content


def outcome(case: tuple[str, list, int]) -> str:
    """FINE for pixels, REFUSED for none, else the exception; "black" for a whole file without its levels."""
    name, changes, in_chans = case
    file = {"path": None, "bytes": changed(FILES[name], changes)}
    try:
        with warnings.catch_warnings(action="ignore"):
            found = canvas.decode(file, canvas.Form(in_chans, SIDE), most_pixels=LARGEST).pixels
    except Exception as error:
        return type(error).__name__
    if found is None:
        return REFUSED
    if (found.shape, found.dtype) != ((in_chans, SIDE, SIDE), np.uint8):
        return "no canvas"
    return "black" if not changes and found.mean() < 50 else FINE
