"""Adversaries: the networks that judge label maps, and the encodings that show maps to them.

A discriminator takes probability maps, or what `encodings` makes of them and the image, and
returns logits; the sigmoid belongs to the losses.
"""
