"""What is where in a picture: a number of a class for each pixel. One file per way to find it."""
