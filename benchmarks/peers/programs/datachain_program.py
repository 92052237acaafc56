"""DataChain: two datasets, of which each is made of what is new in the one before (`delta`)."""

import sys
from pathlib import Path


def main() -> None:
    import datachain as dc
    import numpy as np
    from picture_work import curve, decode

    gain = float(sys.argv[1])

    def image_of(file: dc.File) -> bytes:
        return decode(file.read()).tobytes()

    def curve_of(image: bytes) -> list[float]:
        return curve(np.frombuffer(image, np.uint8).reshape(64, 64, 3), gain).tolist()

    on = {"delta": True, "delta_on": "file.path", "delta_compare": ["file.etag"]}
    photos = dc.read_storage(Path("photos").absolute().as_uri(), update=True, **on)
    photos.map(image=image_of).save("images")
    dc.read_dataset("images", **on).map(curve=curve_of).save("curves")


if __name__ == "__main__":
    main()
