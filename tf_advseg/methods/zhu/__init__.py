"""Zhu et al. (2018): SegGAN and SegWGAN."""
