"""Files and pixels: containers, manifests, decoders, codecs, perturbations."""
