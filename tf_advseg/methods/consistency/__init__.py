"""Consistency between views of unlabelled images, by a mean teacher; with a discriminator or not."""
