"""Verbs of the command line that know images, one module each; heavy imports lie inside the verbs."""
