"""Hung et al. (2018): semi-supervised segmentation with a discriminator's confidence."""
