"""How many times a re-synthesizer enlarges, and the channels of its images; planning needs both without torch."""

SCALE = 4
"""Side of an image over side of its low-resolution image: pixels per block whose mean the re-synthesizer sees."""

COLORS = 3
