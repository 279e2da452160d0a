"""Decoding: photographs of any size and kind become square uint8 canvases of one size.

Decoded canvases are kept in a memory-mapped file, since few machines can decode JPEGs as fast as they train.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from filelock import FileLock
from huggingface_hub import constants
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm.auto import tqdm

CACHE = Path(constants.HF_HOME) / "dtram-canvases"
TRANSFORM = {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}  # `decode`, in timm's words
CHUNK = 256  # images decoded at a time
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(file: dict, size: int, in_chans: int) -> np.ndarray | None:
    """One photograph: its shorter side fitted to `size`, the centre kept.

    Args:
        file: {"path", "bytes"}, as `datasets.Image(decode=False)` has it.
        size: side of the canvas in pixels.
        in_chans: 1 for grey, 3 for RGB.

    Returns:
        (in_chans, size, size) uint8; None if the file is no readable image.
    """
    try:
        with Image.open(io.BytesIO(file["bytes"]) if file["bytes"] else file["path"]) as image:
            # A large JPEG is decoded at a fraction of its size.
            image.draft("L" if in_chans == 1 else "RGB", (2 * size, 2 * size))
            image = as_photograph(image, in_chans)
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    except UNREADABLE:
        return None
    return np.asarray(image).reshape(size, size, in_chans).transpose(2, 0, 1)


def as_photograph(image: Image.Image, in_chans: int) -> Image.Image:
    """Turned as its EXIF says, in 8 bits, grey (`in_chans` 1) or RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would clip all above 255
        image = image.point(lambda level: level / 257)
    return image.convert("L" if in_chans == 1 else "RGB")


def read_content(file: dict) -> bytes:
    """The undecoded bytes of {"path", "bytes"}, of which one may be None."""
    return file["bytes"] or Path(file["path"]).read_bytes()


def decode_all(files: list[dict], size: int, in_chans: int) -> list[np.ndarray | None]:
    """`decode` for many, on all cores."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda file: decode(file, size, in_chans), files))


def load_canvases(
    split: Dataset, name: str, size: int, in_chans: int, cache: Path | None = None, say: Callable = print
) -> tuple[Tensor, list[int]]:
    """All canvases of a split, decoded the first time and mapped into memory from then on.

    The file is keyed by the bytes of all images and by the settings. Of several processes one decodes, the
    others wait; a process that dies leaves nothing that is taken for whole.

    Args:
        split: with a column `image` of {"path", "bytes"}.
        name: of the split, for what is said.
        size, in_chans: as in `decode`.
        cache: folder for the files.
        say: told how large a file will be before it is written.

    Returns:
        (N, in_chans, size, size) uint8, zero where a file is unreadable; and the indices of those files.

    Raises:
        ValueError: the disk has no room for the file.
    """
    cache = Path(cache or CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"{_key(split, size, in_chans)}.npy"
    broken = target.with_suffix(".json")
    with FileLock(target.with_suffix(".lock")):
        if not (target.is_file() and broken.is_file()):
            _write(split, name, size, in_chans, target, broken, say)
    # Private pages: nobody can change the file through the tensor.
    images = torch.from_numpy(np.load(target, mmap_mode="c"))
    return images, json.loads(broken.read_text())


def _write(
    split: Dataset, name: str, size: int, in_chans: int, target: Path, broken: Path, say: Callable
) -> None:
    shape, partial = (len(split), in_chans, size, size), target.with_suffix(".partial")
    needed, free = int(np.prod(shape)), shutil.disk_usage(target.parent).free
    if needed > free:
        raise ValueError(
            f"data.cache={str(target.parent)!r} has {_readable(free)} free, and the decoded {name} images "
            f"take {_readable(needed)}; accepted is a folder on a larger disk."
        )
    say(f"data: decoding {len(split)} {name} images, once, into {_readable(needed)} under {target.parent}")
    unreadable = []
    try:
        # Not through a map: where a disk or a quota runs full, a write says so and a map kills the process.
        with partial.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in tqdm(range(0, len(split), CHUNK), desc=name, leave=False, disable=None):
                files = split[start : start + CHUNK]["image"]
                for i, canvas in enumerate(decode_all(files, size, in_chans), start):
                    if canvas is None:
                        unreadable.append(i)
                        canvas = np.zeros(shape[1:], np.uint8)
                    file.write(canvas.tobytes())
        broken.write_text(json.dumps(unreadable))
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ValueError(f"data.cache={str(target.parent)!r} cannot be written ({error.strerror}).") from None


def _key(split: Dataset, size: int, in_chans: int) -> str:
    """A name for canvases of these very images with these settings."""
    digest = hashlib.sha256(f"canvas 2, {size} pixels, {in_chans} channels".encode())
    for batch in split.select_columns(["image"]).iter(CHUNK):
        for file in batch["image"]:
            digest.update(hashlib.sha256(read_content(file)).digest())
    return digest.hexdigest()[:32]


def _readable(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
