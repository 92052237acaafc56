"""joblib.Memory: both functions are cached by the digest of the file's bytes."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def main() -> None:
    from joblib import Memory
    from picture_work import curve, decode

    memory = Memory("cache", verbose=0)

    @memory.cache(ignore=["data"])
    def image_of(digest, data):
        return decode(data)

    @memory.cache(ignore=["data"])
    def curve_of(digest, gain, data):
        return curve(image_of(digest, data), gain)

    gain = float(sys.argv[1])
    for path in sorted(Path("photos").iterdir()):
        data = path.read_bytes()
        curve_of(hashlib.sha256(data).hexdigest(), gain, data)


if __name__ == "__main__":
    main()
