"""Networks that give a logit for every class at every pixel, their layers, and weights in and out.

A segmentor takes RGB in 0..255 and returns logits at its own stride; everything it needs to read
an image, normalisation included, is inside it. `zoo/` brings published weights in.
"""
