"""Labelled and unlabelled images in one batch: the same draws, no label that leaks, any order."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_layouts import write_folder
from tf_advseg.core.errors import UserError
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import mixed
from tf_advseg.data.augmentation import cutmix
from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records
from tf_advseg.training import loop

LABELLED = [f'p{i}' for i in range(5)]
UNLABELLED = [f'p{i}' for i in range(5, 12)]
CROP = (49, 57)  # holds every image
SMALL = (33, 33)
B, U = 2, 3
SECRET = 3  # the class of every pixel of the images that are shown without labels


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('mixed')
    write_folder(folder / 'own', LABELLED + UNLABELLED, classes=3)
    for name in UNLABELLED:
        shape = np.asarray(Image.open(folder / 'own' / 'labels' / f'{name}.png')).shape
        Image.fromarray(np.full(shape, SECRET, np.uint8)).save(
            folder / 'own' / 'labels' / f'{name}.png')
    reader = make_reader('folder', folder / 'own', num_classes=4)
    return RecordSet(write_records(reader, {'train': LABELLED + UNLABELLED}, folder / 'records',
                                   progress=False))


def batches(records, first=0, steps=4, seed=0, crop=CROP, **options):
    return list(mixed.mixed_batches(
        records, LABELLED, records, UNLABELLED, B, U, crop, RandomStreams(seed), first,
        num_steps=steps, **options).as_numpy_iterator())


def labelled(records, first=0, steps=4, seed=0, crop=CROP, **options):
    return list(mixed.labelled_batches(
        records, LABELLED, B, crop, RandomStreams(seed), first, steps, **options
    ).as_numpy_iterator())


def same(left, right):
    return len(left) == len(right) and all(
        np.array_equal(a[key], b[key]) for a, b in zip(left, right) for key in a)


def rows(batch, which, keys):
    """{image id: its row of each key}; an image may come twice at the border of two epochs."""
    return sorted(zip(batch['image_id'][which].tolist(),
                      *([row.tobytes() for row in batch[key][which]] for key in keys)))


def test_contract_of_a_batch(records):
    dataset = mixed.mixed_batches(records, LABELLED, records, UNLABELLED, B, U, CROP,
                                  RandomStreams(0), 0, independent_ground_truth=True)
    maps = [B + U, *CROP]
    assert {key: (spec.shape, spec.dtype) for key, spec in dataset.element_spec.items()} == {
        'image': ([*maps, 3], tf.float32), 'label': (maps, tf.int32), 'valid': (maps, tf.bool),
        'labeled': ([B + U], tf.bool), 'image_id': ([B + U], tf.string),
        'truth': (maps, tf.int32)}
    own = mixed.labelled_batches(records, LABELLED, B, CROP, RandomStreams(0), 0)
    assert set(own.element_spec) == {'image', 'label', 'image_id', 'index'}


@pytest.mark.parametrize('crop', [CROP, SMALL])
def test_a_step_is_a_function_of_seed_and_step(records, crop):
    whole = batches(records, 0, 6, crop=crop, independent_ground_truth=True)
    assert same(whole, batches(records, 0, 6, crop=crop, independent_ground_truth=True, prefetch=1))
    assert same(whole[4:], batches(records, 4, 2, crop=crop, independent_ground_truth=True))
    assert not same(whole, batches(records, 0, 6, crop=crop, seed=1, independent_ground_truth=True))
    endless = mixed.mixed_batches(records, LABELLED, records, UNLABELLED, B, U, crop,
                                  RandomStreams(0), 4, independent_ground_truth=True)
    assert same(whole[4:], list(endless.take(2).as_numpy_iterator()))


@pytest.mark.parametrize('recipe', ['flip', 'hung'])
def test_labelled_rows_are_those_of_the_labelled_batch(records, recipe):
    recipe, keys = recipes.make_recipe(recipe), ('image', 'label')
    for batch, alone in zip(batches(records, crop=SMALL, recipe=recipe),
                            labelled(records, crop=SMALL, recipe=recipe)):
        assert batch['labeled'].sum() == B and set(alone['image_id']) <= {
            name.encode() for name in LABELLED}
        assert rows(batch, batch['labeled'], keys) == rows(alone, slice(None), keys)
        np.testing.assert_array_equal(batch['valid'][batch['labeled']],
                                      batch['label'][batch['labeled']] != 255)


@pytest.mark.parametrize('recipe', ['flip', 'hung', 'zhu'])
def test_no_label_of_an_unlabelled_image_shows(records, recipe):
    seen = set()
    for batch in batches(records, steps=7, recipe=recipes.make_recipe(recipe),
                         independent_ground_truth=True):
        hidden = ~batch['labeled']
        assert hidden.sum() == U and (batch['label'][hidden] == 255).all()
        assert (batch['truth'][hidden] == 255).all()
        assert SECRET not in batch['label'] and SECRET not in batch['truth']
        seen |= {name.decode() for name in batch['image_id'][hidden]}
    assert seen == set(UNLABELLED)


def test_valid_is_the_image_and_never_the_padding(records):
    """Whole images in a larger crop: their sizes, at the top and on the left or mirrored."""
    for batch in batches(records):
        for index in np.flatnonzero(~batch['labeled']):
            name, valid = batch['image_id'][index].decode(), batch['valid'][index]
            assert valid.sum() == np.prod(records.image_sizes([name])[0]) < valid.size
            assert (batch['image'][index][~valid] == 127.5).all()
    image, _ = records.load('p5')
    shown = next(batch['image'][i] for batch in batches(records, steps=7)
                 for i, name in enumerate(batch['image_id']) if name == b'p5')
    height, width = image.shape[:2]
    assert any(np.array_equal(found[:height, :width], image)
               for found in (shown, shown[:, ::-1]))


def test_the_order_is_another_at_each_step_and_seed(records):
    orders = [tuple(batch['labeled']) for seed in (0, 1)
              for batch in batches(records, steps=10, seed=seed, crop=(33, 33))]
    assert len(set(orders[:10])) > 1 and orders[:10] != orders[10:]
    # Replicas get consecutive parts: some steps give the first two rows one label, or none, or two.
    assert len({sum(order[:2]) for order in orders}) > 1


def test_second_truths_are_draws_of_their_own(records):
    own = labelled(records, steps=10)
    twice = labelled(records, steps=10, independent_ground_truth=True)
    assert same(own, [{key: batch[key] for key in own[0]} for batch in twice])
    equal = [np.array_equal(a, b) for batch in twice for a, b in zip(batch['label'],
                                                                     batch['truth'])]
    assert 0 < len(equal) - sum(equal)
    known = [records.load(name)[1] for name in LABELLED]
    for batch, other in zip(twice, batches(records, steps=10, independent_ground_truth=True)):
        for truth in batch['truth']:
            whole = [np.array_equal(np.sort(label[label != 255]), np.sort(truth[truth != 255]))
                     for label in known]
            assert any(whole)  # the crop holds whole images: one of the labelled ones'
        assert sorted(map(bytes, batch['truth'])) == sorted(
            map(bytes, other['truth'][other['labeled']]))


def test_unpadded_truths_are_whole_labels_at_the_crops_size(records):
    """The crop holds every image, so without it all of them are padded; images stay as they are."""
    known = set()
    for name in LABELLED:
        label = tf.constant(records.load(name)[1].astype(np.int32))
        whole = official_preprocessing.resized_map(label, CROP).numpy()
        known |= {bytes(np.ascontiguousarray(whole)), bytes(np.ascontiguousarray(whole[:, ::-1]))}
    padded, filled = (batches(records, independent_ground_truth=True, unpadded_truths=unpadded)
                      for unpadded in (False, True))
    for batch, other in zip(padded, filled):
        for key in set(batch) - {'truth'}:
            np.testing.assert_array_equal(batch[key], other[key])
        given = batch['labeled']
        assert (other['truth'][~given] == 255).all()
        for before, after in zip(batch['truth'][given], other['truth'][given]):
            assert bytes(after) in known and bytes(before) not in known
    assert same(filled[2:], batches(records, 2, 2, independent_ground_truth=True,
                                    unpadded_truths=True))


@pytest.mark.parametrize('own, others', [(1, 1), (3, 3), (2, 5), (5, 2), (1, 6)])
def test_an_even_order_spreads_both_kinds(own, others):
    order = mixed.even_order(own, others)
    size = own + others
    np.testing.assert_array_equal(np.sort(order), np.arange(size))
    for which in (order < own, order >= own):
        np.testing.assert_array_equal(order[which], np.sort(order[which]))
        for length in range(1, size + 1):
            counts = [which[at:at + length].sum() for at in range(size - length + 1)]
            share = length * which.sum() / size
            assert np.floor(share) <= min(counts) <= max(counts) <= np.ceil(share)


def test_an_even_batch_is_the_rows_of_the_mixed_one(records):
    for one, other in zip(batches(records, 3), batches(records, 3, evenly=True)):
        np.testing.assert_array_equal(other['labeled'], mixed.even_order(B, U) < B)
        for key in ('image', 'label', 'valid'):
            assert sorted(map(bytes, one[key])) == sorted(map(bytes, other[key]))


def test_parts_of_an_even_batch_need_both_kinds():
    for given in ((1, 1, 1, 1), (2, 2, 2, 1), (2, 2, 1, 2), (4, 4, 2, 2), (3, 3, 2, 1)):
        mixed.require_both_kinds(*given)
    for given, words in (((1, 1, 2, 1), '1 and 1 of them on 2 replicas in 1 micro-batch leave'),
                         ((2, 2, 1, 3), 'on 1 replica in 3 micro-batches'),
                         ((1, 6, 2, 1), '1 and 6'), ((2, 2, 2, 2), '2 micro-batches')):
        with pytest.raises(UserError, match=words) as caught:
            mixed.require_both_kinds(*given)
        assert '\n' not in str(caught.value)


def test_images_may_come_from_other_records_with_the_same_ids(records, tmp_path):
    ids = LABELLED[:3]
    reader = make_reader('folder', write_folder(tmp_path / 'own', ids, classes=2), num_classes=2)
    other = RecordSet(write_records(reader, {'train': ids}, tmp_path / 'records', progress=False))
    found = next(mixed.mixed_batches(records, LABELLED, other, other.ids, B, U, CROP,
                                     RandomStreams(0), 0).as_numpy_iterator())
    assert (found['label'][~found['labeled']] == 255).all()
    assert {name.decode() for name in found['image_id'][~found['labeled']]} == set(ids)


def test_replicas_get_the_rows_of_the_global_batch_and_uneven_numbers_of_labels(records,
                                                                                two_replicas):
    dataset = mixed.mixed_batches(records, LABELLED, records, UNLABELLED, B, U, SMALL,
                                  RandomStreams(0), 2, num_steps=8)
    counts = set()
    for whole, parts in zip(dataset.as_numpy_iterator(), loop.distribute(dataset, two_replicas)):
        for key in ('image', 'labeled', 'valid'):
            values = two_replicas.experimental_local_results(parts[key])
            assert [value.shape[0] for value in values] == [3, 2]
            np.testing.assert_array_equal(tf.concat(values, axis=0).numpy(), whole[key])
        counts.add(tuple(int(tf.reduce_sum(tf.cast(value, tf.int32))) for value in
                         two_replicas.experimental_local_results(parts['labeled'])))
    assert len(counts) > 1 and all(sum(pair) == B for pair in counts)


@pytest.mark.parametrize('size, others, ids, words', [
    (0, U, UNLABELLED, 'batch_size = 0'), (B, 0, UNLABELLED, 'unlabelled_batch_size = 0'),
    (B, 1.5, UNLABELLED, 'unlabelled_batch_size = 1.5'),
    (B, U, [], 'no unlabelled image to learn from')])
def test_batches_without_either_kind_are_refused(records, size, others, ids, words):
    with pytest.raises(UserError, match=words) as caught:
        mixed.mixed_batches(records, LABELLED, records, ids, size, others, CROP, RandomStreams(0),
                            0)
    assert '\n' not in str(caught.value)


def test_two_views_of_unlabelled_images(records):
    """The strong view has the plain one's pixels in their places, and in a box the next image's."""
    recipe = recipes.make_recipe('flip+photometric')
    views = cutmix.CutMix(probability=0.7, least=0.2, most=0.5)
    found = batches(records, 0, 8, recipe=recipe, two_views=views)
    assert same(found[5:], batches(records, 5, 3, recipe=recipe, two_views=views))
    one_view = batches(records, 0, 8, recipe=recipe.plain)
    whole = batches(records, 0, 8, recipe=recipe)
    boxes = 0
    for batch, plain, strong in zip(found, one_view, whole):
        others = ~batch['labeled']
        np.testing.assert_array_equal(batch['image_id'], plain['image_id'])
        np.testing.assert_array_equal(batch['plain'][others], plain['image'][others])
        np.testing.assert_array_equal(batch['plain_valid'], plain['valid'])
        np.testing.assert_array_equal(batch['plain'][~others], plain['image'][~others])
        assert not batch['cut'][~others].any()
        np.testing.assert_array_equal(batch['next'][~others], np.flatnonzero(~others))
        np.testing.assert_array_equal(np.sort(batch['next'][others]), np.flatnonzero(others))
        assert (batch['next'][others] != np.flatnonzero(others)).all()
        inside = batch['cut']
        for name in ('image', 'valid'):
            mask = inside[..., None] if name == 'image' else inside
            np.testing.assert_array_equal(
                batch[name], np.where(mask, strong[name][batch['next']], strong[name]))
        boxes += inside.any((1, 2)).sum()
    assert 6 < boxes < 8 * U


def test_two_views_on_two_replicas_are_the_rows_of_one(records, two_replicas):
    views = cutmix.CutMix(probability=1.0)
    dataset = mixed.mixed_batches(records, LABELLED, records, UNLABELLED, B, U, SMALL,
                                  RandomStreams(0), 0, two_views=views, num_steps=2)
    parts = loop.distribute(dataset, two_replicas)
    for whole, shares in zip(dataset.as_numpy_iterator(), parts):
        for name in ('plain', 'cut', 'next', 'plain_valid'):
            joined = np.concatenate([part.numpy() for part in
                                     two_replicas.experimental_local_results(shares[name])])
            np.testing.assert_array_equal(joined, whole[name])


def test_views_that_cannot_be_made_are_refused(records):
    arguments = records, LABELLED, records, UNLABELLED, B
    with pytest.raises(UserError, match='at least 2'):
        mixed.mixed_batches(*arguments, 1, CROP, RandomStreams(0), 0, two_views=cutmix.CutMix())
    with pytest.raises(UserError, match='would be the same'):
        mixed.mixed_batches(*arguments, U, CROP, RandomStreams(0), 0,
                            two_views=cutmix.CutMix(probability=0.0))
