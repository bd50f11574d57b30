"""Cross-validation: every image is tested on once, copies lie together, the seed is the fold."""
import itertools
import json

import gin
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import stanford_background
from tf_advseg.run import dataset as datasets
from tf_advseg.run import folds
from tf_advseg.run import semi_supervised

OPTIONS = {'num_train': 7, 'num_val': 4, 'num_test': 3, 'size': (49, 49), 'smallest': (40, 40)}
NAMES = ('train', 'val', 'test')


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    return datasets.prepare('shapes', None, tmp_path_factory.mktemp('folds') / 'records', OPTIONS,
                            show=False)


@pytest.mark.parametrize('count', [3, 5, 14])
def test_runs_of_as_many_seeds_test_on_every_image_once(records, count):
    everything = sorted(records.ids)
    tested, validated = [], []
    for seed in range(10, 10 + count):
        drawn = folds.redrawn(records, NAMES, folds.Settings(count), seed)
        parts = [drawn.split(name) for name in NAMES]
        assert sorted(itertools.chain(*parts)) == everything
        assert max(len(part) for part in parts[1:]) - min(len(part) for part in parts[1:]) <= 1
        tested += parts[2]
        validated += parts[1]
    assert sorted(tested) == everything == sorted(validated)
    assert records.splits == datasets.record_sets.RecordSet(records.folder).splits  # untouched


def test_a_number_takes_the_place_of_the_seed_and_a_seed_draws_anew(records):
    by_seed = folds.redrawn(records, NAMES, folds.Settings(5), 12).splits
    assert folds.redrawn(records, NAMES, folds.Settings(5, number=2), 0).splits == by_seed
    assert folds.redrawn(records, NAMES, folds.Settings(5, seed=1), 12).splits != by_seed


def test_without_a_count_the_records_are_as_they_were(records):
    assert folds.redrawn(records, NAMES, folds.Settings(), 3) is records


def test_a_fold_gives_the_images_that_the_records_have(records):
    drawn = folds.redrawn(records, NAMES, folds.Settings(5), 1)
    image, label = drawn.load(drawn.split('test')[0])
    assert image.shape[:2] == label.shape


def test_copies_lie_in_one_part():
    """Stanford Background's pairs, among ids as it has them."""
    class Records:
        folder = 'records'
        manifest = {'identity': {'reader': {'reader': 'stanford_background'}}}
        ids = [i for pair in stanford_background.DUPLICATES for i in pair] + [
            f'0{i:06d}' for i in range(48)]
        splits = {'train': ids[:40], 'val': ids[40:50], 'test': ids[50:]}

        def split(self, name):
            return list(self.splits[name])

    for seed in range(5):
        parts = folds.redrawn(Records(), NAMES, folds.Settings(5), seed).splits
        for pair in stanford_background.DUPLICATES:
            assert sum(bool(set(pair).intersection(part)) for part in parts.values()) == 1


def test_a_runs_data_is_of_its_fold_and_says_so(records, tmp_path):
    gin.parse_config('folds.count = 5')
    data = datasets.dataset(tmp_path, records.folder, holdout_fraction=0.5, run_seed=8)
    drawn = folds.redrawn(records, NAMES, folds.Settings(5), 8)
    assert data.train == drawn.split('train') and data.test == drawn.split('test')
    assert sorted(data.holdout + data.rest) == sorted(drawn.split('val'))
    assert data.fold == {'count': 5, 'number': 3}
    assert json.loads((tmp_path / 'split.json').read_text())['fold'] == data.fold


def test_a_draw_of_another_seed_says_so():
    """Else folds of two draws, which are other images, would be tabled together."""
    assert folds.Settings(5, seed=2).description(8) == {'count': 5, 'number': 3, 'seed': 2}
    assert folds.Settings(5).description(8) == {'count': 5, 'number': 3}
    assert folds.Settings().description(8) is None


def test_a_start_of_another_fold_is_refused(records, tmp_path):
    """It was trained on images that are tested on here, though no label is withheld."""
    found = {}
    for seed in (0, 1, 5):
        gin.clear_config()
        gin.parse_config('folds.count = 5')
        place = tmp_path / str(seed)
        place.mkdir()
        (place / 'config.gin').write_text('')
        found[seed] = datasets.dataset(place, records.folder, run_seed=seed)
    assert found[0].test == found[5].test != found[1].test
    semi_supervised.require_unseen(tmp_path / '5', found[0])
    with pytest.raises(UserError, match='labels would leak.*folds.count') as caught:
        semi_supervised.require_unseen(tmp_path / '1', found[0])
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('settings, message', [
    ({'count': 2}, 'folds.count'), ({'count': 2.5}, 'folds.count'), ({'number': 1}, 'no effect'),
    ({'seed': 1}, 'no effect'), ({'count': 5, 'number': 5}, 'folds.number'),
    ({'count': 5, 'seed': -1}, 'folds.seed')])
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        folds.Settings(**settings)


@pytest.mark.parametrize('names, count, message', [
    (('train', 'val', 'val'), 3, 'have to be three'), (NAMES, 15, '14 images.*fewer folds'),
    (('train', 'val', 'tests'), 3, 'no split "tests"')])
def test_what_cannot_be_cut_into_folds(records, names, count, message):
    with pytest.raises(UserError, match=message):
        folds.redrawn(records, names, folds.Settings(count), 0)
