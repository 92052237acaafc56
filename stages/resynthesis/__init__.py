"""Re-synthesis of images (He et al. 2021): networks that rebuild an image from a degraded one, and what judges them."""
