"""Scores, metrics, differences between classes, and files of detectors."""
