"""The engine: plans, computes and keeps rows; it knows nothing of images."""

from pipeline.importing import install
from pipeline.loaded import watch

install()
watch()
