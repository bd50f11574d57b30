"""Images and labels in, batches out: the only subpackage that knows how a data set lies on disk.

Readers turn any official layout into (image, label) pairs, records keep these in a few
checked files, augment and pipeline make reproducible batches of them.
"""
