"""No tool: a loop that keeps both results in one file each."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    import numpy as np
    from picture_work import curve, decode

    gain = float(sys.argv[1])
    images = np.stack([decode(path.read_bytes()) for path in sorted(Path("photos").iterdir())])
    np.save("images.npy", images)
    np.save("curves.npy", np.stack([curve(image, gain) for image in images]))


if __name__ == "__main__":
    main()
