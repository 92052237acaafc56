"""Files of weights: containers, restricted pickles, and what kinds of weights there are."""
