"""Rows taken away in formats that other programs read: a format per file."""
