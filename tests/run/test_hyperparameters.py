"""HParams: settings and results as TensorBoard reads them."""
import types

import tensorflow as tf
from tensorboard.plugins.hparams import plugin_data_pb2

from tf_advseg.core import configuration
from tf_advseg.experiments.train import training  # noqa: F401  registers the settings
from tf_advseg.run import hyperparameters


def _summaries(folder):
    found = {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                found[value.tag] = value
    return found


def test_settings_and_miou_are_written_once(tmp_path):
    configuration.parse([], ["experiment.method = 'luc'", 'experiment.crop_size = (33, 49)',
                             'stage_one.epochs = 2', 'dataset.holdout_fraction = 0.5'])
    context = types.SimpleNamespace(chief=True, run=types.SimpleNamespace(tensorboard=tmp_path))
    results = {'models': {'Stage 1': {'holdout': {'miou': 0.25}, 'test': None},
                          'Luc': {'holdout': {'miou': 0.5}}}}
    try:
        hyperparameters.write(context, {'models': {'old': {'holdout': {'miou': 0.1}}}})
        hyperparameters.write(context, results)
    finally:
        configuration.parse([], [])
    found = _summaries(tmp_path / hyperparameters.FOLDER)
    assert 'miou/holdout/old' not in found
    assert float(tf.make_ndarray(found['miou/holdout/Luc'].tensor)) == 0.5
    assert 'miou/test/Stage 1' not in found
    content = found['_hparams_/session_start_info'].metadata.plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values['experiment.method'].string_value == 'luc'
    assert values['experiment.crop_size'].string_value == '(33, 49)'
    assert values['stage_one.epochs'].number_value == 2
    assert values['dataset.holdout_fraction'].number_value == 0.5


def test_other_workers_write_nothing(tmp_path):
    hyperparameters.write(types.SimpleNamespace(chief=False), {})
    assert not list(tmp_path.iterdir())
