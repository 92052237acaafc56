"""What trainings share: order of rows, determinism, choice of a detector."""
