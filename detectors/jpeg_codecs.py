"""JPEG as a perturbation, by Pillow or by OpenCV: one image encoded and decoded in memory.

Both are libjpeg underneath with chroma subsampling 4:2:0, and with equal libraries they give equal pixels; published
programs use the one, the other, or either by chance (Wang et al. 2020). OpenCV is optional: the extra `opencv`.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Codec = Literal["pillow", "opencv"]
Image = NDArray[np.uint8]


def jpeg(image: Image, quality: int, codec: Codec = "pillow", channel_order: str = "rgb") -> Image:
    """Encode and decode at `quality` 1 to 100. (H, W, 3) uint8 RGB in and out.

    `channel_order` "bgr" hands the channels over in reverse, as the released program of Frank et al. 2020 does.
    """
    channels = image[:, :, ::-1] if channel_order == "bgr" else image
    result = (_opencv if codec == "opencv" else _pillow)(np.ascontiguousarray(channels), quality)
    return np.ascontiguousarray(result[:, :, ::-1]) if channel_order == "bgr" else result


def check(codec: Codec) -> None:
    """Raise ValueError with one sentence if the codec's library is not installed."""
    if codec == "opencv":
        _cv2()


def versions(codec: Codec) -> dict[str, str]:
    """Versions that the pixels of a codec depend on: the library's and that of the libjpeg inside."""
    if codec == "opencv":
        import re

        library = _cv2()
        built = re.search(r"^\s*JPEG:\s*(.+?)\s*$", library.getBuildInformation(), re.MULTILINE)
        return {"opencv": str(library.__version__), "opencv libjpeg": built[1] if built else "unknown"}
    from PIL import features

    turbo = features.version("libjpeg_turbo")
    return {"libjpeg": f"turbo {turbo}" if turbo else str(features.version("jpg"))}


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            f"codecs name opencv, and OpenCV cannot be imported ({error}); install "
            "opencv-python-headless (the extra opencv), or write codecs: [pillow]"
        ) from None
    return cv2


def _pillow(channels: Image, quality: int) -> Image:
    from PIL import Image as Pillow

    stream = BytesIO()
    Pillow.fromarray(channels).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    with Pillow.open(stream, formats=("JPEG",)) as decoded:
        return np.array(decoded)


def _opencv(channels: Image, quality: int) -> Image:
    """OpenCV takes and gives blue first; 4:2:0 is its default."""
    cv2 = _cv2()
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(channels[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV could not encode an image of {channels.shape[0]} x {channels.shape[1]} px")
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])
