"""Images of a run beside what the GAN of phase 1 reconstructs of them (Zhu et al., Fig. 3)."""
import numpy as np
import tensorflow as tf

from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.models import resize
from tf_advseg.reporting.paper_figures import reconstruction_panels

STAGE = 'gan'  # phase 1 as a stage of a run
SCORED = 64  # images of the hold-out that l_C is measured on
FROM_TRUTH = 'reconstructed from the truth'


def resized_holdout(context):
    """(float32 [n, h, w, 3], int32 [n, h, w]): the hold-out's images, squeezed into the crop."""
    images, labels = [], []
    for image_id in context.data.holdout[:SCORED]:
        image, label = official_preprocessing.resized(
            *map(tf.constant, context.data.records.load(image_id)), list(context.crop_size),
            official_preprocessing.CENTRES)
        images.append(image.numpy())
        labels.append(label.numpy().astype(np.int32))
    return np.stack(images), np.stack(labels)


def panel(context, reconstruction, ids, predictions=None):
    """Original and reconstructed images (Fig. 3): uint8 [H, W, 3].

    Args:
      context: run.context.Context.
      reconstruction: methods.zhu.zhu.Reconstruction.
      ids: of the images.
      predictions: {title: [float [h, w, C]]}: soft maps that are reconstructed, too; or None.
    """
    images = [context.data.records.load(image_id) for image_id in ids]
    seed = context.streams.seed('diagnostics', 0, STAGE)
    columns = {FROM_TRUTH: [_drawn(reconstruction, image, label, None, seed)
                            for image, label in images]}
    for title, maps in (predictions or {}).items():
        columns[title] = [_drawn(reconstruction, image, label, soft, seed)
                          for (image, label), soft in zip(images, maps)]
    rows = [(image, label, {title: found[i] for title, found in columns.items()})
            for i, (image, label) in enumerate(images)]
    spec = context.data.spec
    return reconstruction_panels.reconstruction_panel(rows, spec.palette, spec.class_names,
                                                      list(ids))


def _drawn(reconstruction, image, label, probabilities, seed):
    """uint8 [h', w', 3]: an image reconstructed from its truth, or from probabilities [h, w, C]."""
    labels = tf.constant(label[None], tf.int32)
    images = reconstruction.scaled_images(tf.constant(image[None], tf.float32), labels)
    if probabilities is None:
        masks = reconstruction.true_masks(labels)
    else:
        masks = resize.resize_bilinear(probabilities[None], reconstruction.grid(labels))
        masks *= reconstruction.labelled(labels)
    reconstructed = reconstruction.reconstructed(masks, images, labels, seed)[0].numpy()
    return np.clip(np.round((reconstructed + 1.0) * 127.5), 0, 255).astype(np.uint8)
