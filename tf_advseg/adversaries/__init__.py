"""Adversaries: the networks that judge label maps, and the encodings that show maps to them.

An adversary takes probability maps, or what `encodings` makes of them and the picture, and
returns logits; the sigmoid belongs to the losses.
"""
