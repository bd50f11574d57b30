"""CutMix and ClassMix of labelled images: against NumPy, on resume, on replicas, beside others."""
import numpy as np
import pytest
import tensorflow as tf

from data_layouts import write_folder
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import mixed
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import augment
from tf_advseg.data.augmentation import cutmix
from tf_advseg.data.augmentation import pasting
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records
from tf_advseg.lookahead import settings as lookahead_settings
from tf_advseg.training import loop

IDS = [f'p{i}' for i in range(9)]
LABELLED, UNLABELLED = IDS[:5], IDS[5:]
CROP = (49, 57)  # larger than every image: there is padding
OPTIONS = ['cutmix', 'classmix']
PIXELS = ('image', 'label')


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pasting')
    reader = make_reader('folder', write_folder(folder / 'own', IDS), num_classes=4)
    return RecordSet(write_records(reader, {'train': IDS}, folder / 'records', progress=False))


def dataset_of(records, name, first=0, steps=5, size=4, **options):
    return pipeline.training_batches(records, IDS, size, CROP, RandomStreams(0), first, steps,
                                     recipe=recipes.make_recipe(name), **options)


def batches(*arguments, **options):
    return list(dataset_of(*arguments, **options).as_numpy_iterator())


def joint(records, name, first=0, steps=5, **options):
    return list(mixed.mixed_batches(
        records, LABELLED, records, UNLABELLED, 3, 2, CROP, RandomStreams(0), first,
        num_steps=steps, recipe=recipes.make_recipe(name), **options).as_numpy_iterator())


def same(left, right):
    return len(left) == len(right) and all(
        set(a) == set(b) and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(left, right))


def assert_pasted(batch, plain, masks, keys=PIXELS):
    """The batch is the plain one with the next image's pixels where the masks (NumPy) are True."""
    for row, mask in enumerate(masks):
        following = (row + 1) % len(masks)
        for key in keys:
            expected = plain[key][row].copy()
            expected[mask] = plain[key][following][mask]
            np.testing.assert_array_equal(batch[key][row], expected)
        other = plain['image_id'][following] if mask.any() else b''
        assert batch['pasted_id'][row] == other
    for key in ('image_id', 'index'):  # of the ground
        np.testing.assert_array_equal(batch[key], plain[key])


def test_boxes_carry_labels_ignored_pixels_and_padding(records):
    """The box of an image is the one that the next image's seed draws."""
    made, ignored = 0, 0
    for step, (batch, plain) in enumerate(zip(batches(records, 'hung+cutmix'),
                                              batches(records, 'hung'))):
        seed = RandomStreams(0).seed('augment', step)
        masks = [cutmix.CutMix().box(augment.example_seed(seed, (row + 1) % 4), CROP).numpy()
                 for row in range(4)]
        assert_pasted(batch, plain, masks)
        made += sum(mask.any() for mask in masks)
        ignored += sum((batch['label'][row][mask] == 255).sum() for row, mask in enumerate(masks))
    assert 5 <= made <= 15 and ignored


def test_half_of_the_classes_of_the_next_label_and_nothing_that_is_ignored(records):
    configuration.parse([], ['classmix.probability = 1.0'])
    for batch, plain in zip(batches(records, 'flip+classmix'), batches(records, 'flip')):
        masks = []
        for row in range(4):
            following = plain['label'][(row + 1) % 4]
            # The images are noise: what has changed says which classes were pasted.
            changed = (batch['image'][row] != plain['image'][row]).any(-1)
            classes = np.setdiff1d(np.unique(following[changed]), [255])
            assert len(classes) == len(np.setdiff1d(np.unique(following), [255])) // 2 > 0
            masks.append(np.isin(following, classes))
        assert_pasted(batch, plain, masks)


@pytest.mark.parametrize('option', OPTIONS)
def test_a_step_is_a_function_of_seed_and_step(records, option):
    whole = batches(records, f'flip+{option}')
    assert same(whole[3:], batches(records, f'flip+{option}', 3, 2))
    assert same(whole, batches(records, f'flip+{option}', num_parallel_calls=1, prefetch=1))
    # The other stream of a method is mixed by draws of its own, and other options move nothing.
    other = batches(records, f'flip+{option}', stream='data', augment_stream='disc_augment')
    assert not np.array_equal([batch['pasted_id'] for batch in whole],
                              [batch['pasted_id'] for batch in other])
    for batch, coloured in zip(whole, batches(records, f'flip+blur+{option}')):
        for key in ('label', 'pasted_id'):
            np.testing.assert_array_equal(batch[key], coloured[key])


@pytest.mark.parametrize('option', OPTIONS)
def test_replicas_get_parts_of_the_mixed_global_batch(records, option, two_replicas):
    dataset = dataset_of(records, f'flip+{option}', size=5, steps=3)
    for whole, parts in zip(dataset.as_numpy_iterator(), loop.distribute(dataset, two_replicas)):
        for key in (*PIXELS, 'index'):
            values = two_replicas.experimental_local_results(parts[key])
            assert [len(value) for value in values] == [3, 2]
            np.testing.assert_array_equal(tf.concat(values, 0).numpy(), whole[key])


@pytest.mark.parametrize('option', OPTIONS)
def test_one_image_and_unlabelled_ones_stay_as_they_are(records, option):
    for options in ({'size': 1}, {'hide_labels': True}):
        assert same(batches(records, f'flip+{option}', **options),
                    batches(records, 'flip', **options))
    configuration.parse([], [f'{option}.probability = 0.0'])
    for batch, plain in zip(batches(records, f'flip+{option}'), batches(records, 'flip')):
        assert (batch.pop('pasted_id') == b'').all() and same([batch], [plain])


@pytest.mark.parametrize('option', OPTIONS)
def test_joint_batches_mix_labelled_rows_as_the_controls_batches_do(records, option):
    """With independent truths, which are mixed among themselves."""
    alone = list(mixed.labelled_batches(
        records, LABELLED, 3, CROP, RandomStreams(0), 0, 5, recipes.make_recipe(f'flip+{option}'),
        independent_ground_truth=True).as_numpy_iterator())
    pasted = 0
    for batch, plain, control in zip(
            joint(records, f'flip+{option}', independent_ground_truth=True),
            joint(records, 'flip', independent_ground_truth=True), alone):
        own = batch['labeled']
        for key in (*PIXELS, 'image_id', 'pasted_id', 'truth'):
            assert sorted(row.tobytes() if key in ('image', 'label', 'truth') else row
                          for row in batch[key][own]) == sorted(
                row.tobytes() if key in ('image', 'label', 'truth') else row
                for row in control[key])
            if key != 'pasted_id':
                np.testing.assert_array_equal(batch[key][~own], plain[key][~own])
        assert (batch['pasted_id'][~own] == b'').all()
        np.testing.assert_array_equal(batch['valid'][own], batch['label'][own] != 255)
        np.testing.assert_array_equal(batch['valid'][~own], plain['valid'][~own])
        pasted += (batch['pasted_id'] != b'').sum()
    assert 0 < pasted < 15


def test_consistencys_cutmix_of_unlabelled_images_is_beside_it(records):
    """Unlabelled rows are as without `+cutmix`; both views of a labelled one are mixed."""
    views = cutmix.CutMix(probability=1.0)
    both = joint(records, 'flip+photometric+cutmix', two_views=views)
    for batch, without in zip(both, joint(records, 'flip+photometric', two_views=views)):
        own = batch['labeled']
        for key in ('image', 'plain', 'valid', 'plain_valid', 'label'):
            np.testing.assert_array_equal(batch[key][~own], without[key][~own])
        for key in ('cut', 'next', 'labeled'):
            np.testing.assert_array_equal(batch[key], without[key])
        np.testing.assert_array_equal(batch['plain_valid'][own], batch['label'][own] != 255)
    for batch, plain in zip(both, joint(records, 'flip+cutmix')):
        np.testing.assert_array_equal(batch['plain'][batch['labeled']],
                                      plain['image'][plain['labeled']])
    assert any((batch['pasted_id'] != b'').any() for batch in both)


def test_pasted_leaves_what_belongs_to_the_ground():
    batch = {'given': np.array([[[True, False]], [[False, False]], [[False, True]]]),
             'image': np.arange(18.0).reshape(3, 1, 2, 3), 'label': np.array([[[0, 1]], [[2, 3]],
                                                                             [[4, 255]]]),
             'image_id': np.array([b'a', b'b', b'c']), 'index': np.array([7, 8, 9])}
    found = {name: value.numpy() if hasattr(value, 'numpy') else value
             for name, value in pasting.pasted(batch).items()}
    assert found['label'].tolist() == [[[0, 1]], [[2, 255]], [[0, 255]]]
    assert found['image'][..., 0].tolist() == [[[0, 3]], [[6, 15]], [[0, 15]]]
    assert found['pasted_id'].tolist() == [b'', b'c', b'a']
    assert found['index'].tolist() == [7, 8, 9] and 'given' not in found and 'given' in batch


def test_by_name_and_what_it_is_recognised_by():
    configuration.parse([], ['cutmix.most = 0.5', 'cutmix.least = 0.25'])
    made = recipes.make_recipe('hung+cutmix+blur')
    assert made.cutmix == cutmix.CutMix(0.5, 0.25, 0.5) == made.pasting and made.classmix is None
    assert made.identity['cutmix'] == {'probability': 0.5, 'least': 0.25, 'most': 0.5}
    assert 'classmix' not in made.identity and not made.keeps_shape
    assert made.plain.cutmix == made.cutmix and not made.plain.changes_looks
    assert recipes.make_recipe('flip+classmix').identity['classmix'] == {'probability': 0.5}
    assert recipes.make_recipe('flip').pasting is None


@pytest.mark.parametrize('name, binding, words', [
    ('flip+cutmix', 'cutmix.most = 1.5', 'cutmix.most = 1.5'),
    ('flip+cutmix', 'cutmix.least = 0', 'cutmix.least = 0'),
    ('flip+cutmix', 'cutmix.probability = "often"', "cutmix.probability = 'often'"),
    ('flip+classmix', 'classmix.probability = -1', 'classmix.probability = -1'),
    ('flip+cutmix+classmix', 'cutmix.most = 0.3', 'leave one of them out'),
    ('flip+cutmx', 'cutmix.most = 0.3', 'Did you mean "cutmix"')])
def test_settings_that_cannot_be_are_one_line(name, binding, words):
    configuration.parse([], [binding])
    with pytest.raises(UserError) as caught:
        recipes.make_recipe(name)
    assert words in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('option', OPTIONS)
def test_load_refuses_what_its_stored_maps_cannot_follow(option):
    with pytest.raises(UserError, match='mixes them') as caught:
        lookahead_settings.LookaheadSettings(augmentation=f'hung+{option}')
    assert '\n' not in str(caught.value)
