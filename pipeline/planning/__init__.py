"""What is wanted and why: rows, views, recipes, and the whole plan before anything runs."""
