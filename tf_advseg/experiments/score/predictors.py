"""What predicts class maps: a network behind a backend, or a file that `export` wrote."""
from tf_advseg.core import errors
from tf_advseg.evaluation import file_predictor
from tf_advseg.evaluation import map_predictor
from tf_advseg.models import backends
from tf_advseg.models.backends import map_file


def require_backend(backend, file):
    """UserError where a file is to be computed by a backend: it has its runtime.

    Args:
      backend: of `backends.NAMES`.
      file: map_file.MapFile.
    """
    if backends.require(backend) != backends.TENSORFLOW:
        raise errors.UserError(f'--backend={backend}: {file.path} is run as it is '
                               f'({file.runtime}); leave --backend out')


def make(network, crop_size, backend, images, say, **options):
    """What predicts images; says what it computes by, unless that is TensorFlow as ever.

    Args:
      network: a segmentor, or map_file.MapFile.
      crop_size: (h, w) a segmentor was trained at, or None.
      backend: of `backends.NAMES`.
      images: how many there will be, or None for many.
      say: function of a line.
      **options: of MapPredictor; a file has them but for what needs probabilities.

    Returns:
      (predictor, function of nothing: a line to say at the end, or '').

    Raises:
      UserError: see `backends.make` and `file_predictor`.
    """
    if isinstance(network, map_file.MapFile):
        require_backend(backend, network)
        predictor = file_predictor.FilePredictor(network, **options)
        say(network.text())
        return predictor, lambda: ''
    chosen = backends.make(network, backend, images)
    if chosen.name != backends.TENSORFLOW or backend == backends.AUTO:
        say(chosen.text())
    return map_predictor.MapPredictor(chosen.network, crop_size, **options), chosen.rest_text


def require_apart(backend, strategy):
    """UserError for an unknown backend, and for another than TensorFlow on several replicas."""
    if backends.require(backend) == backends.TENSORFLOW:
        return
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        raise errors.UserError(f'--backend={backend}: computes on this machine\'s CPU alone; leave '
                               'out --strategy')


def require_files_run(backend, strategy, models):
    """Raises UserError for a backend where all are files, and for files on several replicas."""
    found = [model for model, _, _ in models if isinstance(model, map_file.MapFile)]
    if found and len(found) == len(models):
        require_backend(backend, found[0])
    if found and strategy is not None and strategy.num_replicas_in_sync > 1:
        raise errors.UserError(f'{found[0].path}: computes on this machine\'s CPU alone; leave out '
                               '--strategy')


def compute_by(backend, predictors, images, show):
    """Lets all networks compute by one backend; 'auto' measures the first.

    Args:
      backend: of `backends.NAMES`.
      predictors: MapPredictors, and FilePredictors, which are left as they are.
      images: how many there will be.
      show: whether to say what 'auto' took.

    Returns:
      [backends.Chosen] of the networks.
    """
    made = []
    for predictor in predictors:
        if isinstance(predictor.segmentor, map_file.MapFile):
            continue
        chosen = backends.make(predictor.segmentor, backend, images)
        if backend == backends.AUTO and show:
            print(chosen.text(), flush=True)
        backend, predictor.segmentor = chosen.name, chosen.network
        made.append(chosen)
    return made
