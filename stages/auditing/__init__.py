"""Audit of two sets of images: facts of containers, traces in pixels, duplicates, a learned test, and how one decides."""
