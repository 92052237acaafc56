"""Rows of a view as a stage sees them (interface first; see the prompt of this commit)."""
