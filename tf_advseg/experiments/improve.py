"""LoAd on any Keras model: the Python entry point to what tools/train.py does for our own."""
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core import random_streams
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import run_stages
from tf_advseg.experiments.train import training
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import context as contexts

DEFAULTS = ('methods/load.gin',)
NO_STAGE_ONE = ('stage_one.weighted_epochs = 0', 'stage_one.epochs = 0')


def improve(model, data_dir, workdir, crop_size, num_classes=None, normalise=None,
            logits_stride=None, pick=None, fine_tune_batch_norm=False, seed=0, control=True,
            max_propagations=None, gin_files=DEFAULTS, gin_params=(), strategy=None):
    """Runs LoAd, and its CE-only control, on a model that gives per-pixel logits.

    The model is trained in place and ends with the best weights found. Called again with the same
    arguments it goes on where it was stopped.

    Args:
      model: tf.keras.Model, float32 [B, h, w, 3] -> logits [B, h', w', C], at any stride; trained
        already, or see `gin_params` for a Stage 1 here.
      data_dir: records, or a folder with images/ and labels/ (see data/readers/folder.py).
      workdir: the run directory.
      crop_size: side in pixels, or (h, w), that images are padded or cropped to.
      num_classes: C; read off the model's output if None.
      normalise: function from images in 0..255 to what the model expects; None if it takes
        0..255 itself.
      logits_stride: image pixels per logit; read off the model if None.
      pick: function that takes the logits out of the model's output (a dict, say), or None.
      fine_tune_batch_norm: call the model with training=True in training; by default its batch
        norms keep their statistics (gamma and beta are trained) and Keras Dropout does nothing.
      seed: of all draws.
      control: run the control too.
      max_propagations: a cap on LoAd's propagations, or None.
      gin_files, gin_params: the configuration; e.g. 'stage_one.epochs = 5' for a Stage 1 first.
      strategy: the tf.distribute.Strategy in whose scope the model was built, or None.

    Returns:
      dict of the results, as in WORKDIR/results.json; report.html stands beside it.

    Raises:
      UserError: the data and the model do not fit, or as for `training.experiment`.
    """
    configuration.parse(gin_files, [*NO_STAGE_ONE, f'experiment.seed = {seed}',
                                    f'experiment.control = {control}',
                                    *([] if max_propagations is None else
                                      [f'controller.max_propagations = {max_propagations}']),
                                    *gin_params])
    strategy = strategy or tf.distribute.get_strategy()
    crop_size = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
    with training.opened(workdir, strategy, data_dir, seed) as (run, data):
        with strategy.scope():
            segmentor = segmentors.as_segmentor(
                model, num_classes or data.spec.num_classes, logits_stride=logits_stride,
                normalise=normalise, pick=pick, fine_tune_batch_norm=fine_tune_batch_norm)
        context = contexts.Context(run, data, strategy, random_streams.RandomStreams(seed),
                                   crop_size, None)
        start = [type(model).__name__, [list(v.shape) for v in model.variables]]
        return run_stages.Run(context, segmentor, recipes.find('load'), control).run(start)
