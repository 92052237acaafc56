"""The engine: plans, computes and keeps rows; it knows nothing of images."""

import os

from pipeline.importing import install
from pipeline.loaded import watch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at cuBLAS's first call; else it does not repeat
install()
watch()
