"""Acceptance on a GPU that is at hand for a quarter of an hour: `accept.sh` says how."""
