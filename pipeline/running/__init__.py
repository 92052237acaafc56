"""Doing what a plan says: tasks, threads, clusters, progress."""
