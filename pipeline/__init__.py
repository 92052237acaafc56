"""The engine: plans, computes and keeps rows; it knows nothing of images."""

from pipeline.loaded import watch

watch()
