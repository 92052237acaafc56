"""What `predict` knows besides the model: where images lie, what its training rows were like, pictures of its maps."""
