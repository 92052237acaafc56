"""Spectra and other frequency features of images, and their files."""
