"""How a run starts: from weights that are read at once, and without a trace if that fails."""
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.experiments.train import training
from tf_advseg.run import networks

SIDE = 33
OPTIONS = {'num_train': 2, 'num_val': 2, 'num_test': 1, 'size': (40, 40), 'smallest': (33, 33)}
SMALL = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
         'dataset.holdout_fraction = 0.5', f'experiment.crop_size = {SIDE}',
         "experiment.method = 'cross_entropy'", 'stage_one.epochs = 0',
         'stage_one.weighted_epochs = 0')
SPEC = specs.DatasetSpec('eight', 'abcdefgh', specs.default_palette(8))


def start(workdir, checkpoint, dry_run=False):
    """Starts a run as tools/train.py does, flags among the bindings."""
    configuration.parse([], [*SMALL, 'deeplab_mobilenet_v2.depth_multiplier = 0.25',
                             f'experiment.checkpoint = {str(checkpoint)!r}'])
    return training.experiment(workdir, tf.distribute.get_strategy(), dry_run=dry_run)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Function: depth multiplier -> a model folder."""
    made = {}
    for depth in (0.25, 0.5):
        description = networks.describe('deeplab_mobilenet_v2', num_classes=8, seed=3,
                                        depth_multiplier=depth)
        made[depth] = tmp_path_factory.mktemp('made') / 'model'
        networks.save(made[depth], networks.build(description), description, SPEC)
    return made


def bad(folders, tmp_path):
    """(weights that cannot be used, what is said of them)."""
    cut = tmp_path / 'cut.tflite'
    cut.write_bytes(b'\x1c\0\0\0TFL3' + b'\x7f' * 500)
    return (cut, 'truncated or damaged TFLite'), (folders[0.5], 'another depth multiplier')


def test_a_dry_run_reads_the_weights(folders, tmp_path, capsys):
    for checkpoint, message in bad(folders, tmp_path):
        with pytest.raises(UserError, match=message):
            start(tmp_path / 'run', checkpoint, dry_run=True)
    assert start(tmp_path / 'run', folders[0.25], dry_run=True) is None
    said = capsys.readouterr().out
    assert f'starting weights: {folders[0.25]} (model folder)' in said and 'parameters' in said
    assert not (tmp_path / 'run').exists()


def test_a_failed_start_binds_no_later_one(folders, tmp_path, capsys):
    workdir = tmp_path / 'run'
    for checkpoint, message in bad(folders, tmp_path):
        with pytest.raises(UserError, match=message):
            start(workdir, checkpoint)
        assert [path.name for path in workdir.iterdir()] == ['records.partial']
    results = start(workdir, folders[0.25])  # the corrected command
    assert results['models']['Stage 1'] and (workdir / 'config.gin').is_file()
    assert not (workdir / 'records.partial').exists()
    assert capsys.readouterr().out.count('starting weights:') == 1
    # From here on it is a run: it does not read the weights again, and an error leaves it there.
    start(workdir, folders[0.25])
    assert 'starting weights:' not in capsys.readouterr().out
    with pytest.raises(UserError, match='another configuration'):
        start(workdir, folders[0.5])
    assert (workdir / 'results.json').is_file()


def test_ctrl_c_leaves_what_the_same_command_goes_on_with(folders, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(networks, 'read_weights', stopped)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / 'run', folders[0.25])
    assert (tmp_path / 'run' / 'config.gin').is_file()


def test_settings_that_nothing_read_are_named_at_the_end(tmp_path, caplog):
    configuration.parse([], [*SMALL, "experiment.network = 'farabet'", 'farabet.hidden = 8',
                             'step_decay.factor = 0.5', 'deeplab_xception.output_stride = 8'])
    training.experiment(tmp_path / 'run', tf.distribute.get_strategy())
    line, = [record.getMessage() for record in caplog.records if 'no effect' in record.getMessage()]
    assert line == ('settings that had no effect on this run: deeplab_xception.output_stride, '
                    'step_decay.factor')
    configuration.parse([], [])


def test_a_setting_of_the_command_line_that_nothing_reads_is_an_error(tmp_path):
    given = ["experiment.network = 'farabet'", 'farabet.hidden = 8', 'stage_one.batch_size = 2']
    idle = ['rotation.degrees = 5.0', 'deeplab_xception.output_stride = 8']

    def dry(files, bindings):
        configuration.parse(files, [*SMALL, *bindings])
        training.experiment(tmp_path / 'run', tf.distribute.get_strategy(), dry_run=True,
                            given=bindings)
    dry([], given)
    with pytest.raises(UserError) as caught:
        dry([], [*given, *idle])
    assert str(caught.value).startswith(
        '--gin_param: deeplab_xception.output_stride, rotation.degrees have no effect on this run')
    own = tmp_path / 'own.gin'
    own.write_text('\n'.join(idle))
    dry([own], given)  # a file may hold what another command has a use for
    dry([], [*given, *idle[:1], 'stage_one.epochs = 1',
             "stage_one.augmentation = 'flip+rotation'"])
    configuration.parse([], [])


def test_what_weights_have_seen_is_asked_of_where_they_were_found(folders, tmp_path, monkeypatch):
    """A path may be relative to the checkout: as given it may lead nowhere from here."""
    asked = []
    monkeypatch.setattr(networks, 'find_weights', lambda path: folders[0.25])
    monkeypatch.setattr(training.semi_supervised, 'require_unseen',
                        lambda path, data: asked.append(path))
    start(tmp_path / 'run', 'runs/elsewhere', dry_run=True)
    assert asked == [folders[0.25]]
