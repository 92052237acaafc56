"""`python -m pipeline` is the command `touchstone`."""

from pipeline.cli import main

main()
