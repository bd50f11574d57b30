"""tf_advseg: adversarial training of semantic segmentation in TensorFlow 2 / Keras."""

__version__ = '0.1.0'
