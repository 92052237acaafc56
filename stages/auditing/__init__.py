"""Audit of two sets of images: container facts, traces in pixels, duplicates, probes, the decision rule."""
