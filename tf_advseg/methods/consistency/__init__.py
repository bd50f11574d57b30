"""Consistency between views of unlabelled images: a mean teacher, with a discriminator or not."""
