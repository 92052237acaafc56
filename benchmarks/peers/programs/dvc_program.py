"""DVC: the two commands of its stages; `python dvc_program.py decode`, then `curves`, whose parameter is in a file."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    import numpy as np
    from picture_work import curve, decode

    if sys.argv[1] == "decode":
        np.save("images.npy", np.stack([decode(path.read_bytes()) for path in sorted(Path("photos").iterdir())]))
        return
    gain = float(Path("params.yaml").read_text().partition(":")[2])
    np.save("curves.npy", np.stack([curve(image, gain) for image in np.load("images.npy")]))


if __name__ == "__main__":
    main()
