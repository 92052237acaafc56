"""Faces in pictures: where they are, and squares around them as published data sets cut them out."""
