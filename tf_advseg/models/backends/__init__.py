"""The forward pass of a segmentor by a faster runtime, for prediction only.

A backend is called as a segmentor is, `backend(image, training=False)`, and has the attributes
that prediction asks a segmentor for. So whatever predicts class maps takes either.
"""
from tf_advseg.models.backends.backend import Backend
from tf_advseg.models.backends.choosing import AUTO, NAMES, TENSORFLOW, make, require

__all__ = ['AUTO', 'Backend', 'NAMES', 'TENSORFLOW', 'make', 'require']
