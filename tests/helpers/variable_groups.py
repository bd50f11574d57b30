"""The trainable variables of a network by their part in it."""
import tensorflow as tf


def variable_groups(segmentor):
    """Splits the trainable variables by their part in the network.

    Returns:
      dict of lists: 'backbone', 'head' (official "last layers" without the logits), 'logits'. All
      variables of a model without parts of that name are in 'backbone'.
    """
    groups = {'backbone': [], 'head': [], 'logits': []}
    backbone, logits = getattr(segmentor, 'backbone', None), getattr(segmentor, 'logits', None)
    if not isinstance(backbone, tf.Module):
        groups['backbone'] = list(segmentor.trainable_variables)
        return groups
    of_backbone = {id(v) for v in backbone.trainable_variables}
    of_logits = {id(v) for v in logits.trainable_variables}
    for variable in segmentor.trainable_variables:
        group = ('backbone' if id(variable) in of_backbone else
                 'logits' if id(variable) in of_logits else 'head')
        groups[group].append(variable)
    return groups
