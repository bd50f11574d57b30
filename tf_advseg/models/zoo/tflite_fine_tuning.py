"""Quantisation-aware fine-tuning of a file in eight bits: it is taught what the float network says.

The student is the file itself (`tflite_simulation`), as calibration has left it; the teacher is the
float file, whose softmax over classes is the target on every image. So no labels are needed. Learnt
are kernels and biases; the ranges stay those of calibration. Not tensorflow-model-optimization: see
docs/internals.md.
"""
import numpy as np
import tensorflow as tf

from tf_advseg.core import progress
from tf_advseg.models.zoo import tflite_graph
from tf_advseg.models.zoo import tflite_simulation

BATCH = 2
RATE = 0.01    # of Adam: what a weight moves in a step, in steps of its integers
WARM_UP = 0.1   # of all steps: Adam's first steps move every weight by the whole rate


def fine_tuned(plain, content, tuning):
    """A file in eight bits, fine-tuned.

    Args:
      plain: the float file as bytes; its input is one float32 image of 0..255.
      content: what was made of it in eight bits, as bytes.
      tuning: `tflite_export.FineTuning`.

    Returns:
      The file as bytes.

    Raises:
      UserError: the network has an operation that cannot be differentiated here.
    """
    graph = tflite_graph.Graph(content)
    student = tflite_simulation.Simulation(graph)
    teacher = _teacher(plain)
    optimizer = tf.keras.optimizers.Adam(_Rate(tuning.steps))

    @tf.function(autograph=False)
    def step(images, expected):
        with tf.GradientTape() as tape:
            loss = divergence(expected, student(images))
        gradients = tape.gradient(loss, student.variables)
        optimizer.apply_gradients(zip(gradients, student.variables))

    random = np.random.default_rng(0)
    with progress.Progress(tuning.steps, 'steps', enabled=tuning.show) as bar:
        for _ in range(tuning.steps):
            images = np.stack([_drawn(tuning.images, random) for _ in range(BATCH)])
            step(tf.constant(images), tf.constant(teacher(images)))
            bar.update(1)
    student.write()
    return graph.content()


def divergence(expected, found):
    """Mean over pixels of KL(softmax(expected) || softmax(found)); logits [..., C] -> scalar."""
    target = tf.nn.log_softmax(expected)
    return tf.reduce_mean(tf.reduce_sum(
        tf.exp(target) * (target - tf.nn.log_softmax(found)), -1))


def _teacher(content):
    """Function of float32 [B, H, W, 3] -> the float file's logits, before they are enlarged."""
    graph = tflite_graph.Graph(content)
    run = graph.runner([tflite_simulation.logits(graph)])
    return lambda images: np.concatenate([run(image[None])[0].copy() for image in images])


def _drawn(images, random):
    """One of the images as float32, every other time mirrored."""
    image = np.asarray(images[random.integers(len(images))], np.float32)
    return image[:, ::-1] if random.random() < 0.5 else image


class _Rate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a line to `RATE`, then falls to 0 as half a cosine."""

    def __init__(self, steps):
        super().__init__()
        self._steps = float(steps)

    def __call__(self, step):
        share = (tf.cast(step, tf.float32) + 0.5) / self._steps
        return RATE * tf.minimum(share / WARM_UP, 0.5 * (1.0 + tf.cos(np.pi * share)))

    def get_config(self):
        """See Keras."""
        return {'steps': self._steps}
