"""Families of generators: networks, their official files, trainings and losses."""
