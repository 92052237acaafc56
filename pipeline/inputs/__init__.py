"""One look at the files that go in."""
