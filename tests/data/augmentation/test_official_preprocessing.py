"""Sizes, scales and padding against numbers that the official DeepLab code made."""
import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from data_layouts import write_folder
from tf_advseg.core.errors import UserError
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import augment
from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.data.augmentation.official_preprocessing import RandomScale, SizeRange
from tf_advseg.data.augmentation.recipes import Recipe
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records
from tf_advseg.models import layers, resize

IDS = [f'p{i}' for i in range(9)]
CROP = (49, 57)
SIZE = (97, 161)  # of the reference's image


@pytest.fixture(scope='module')
def numbers(official):
    return official.arrays('preprocess')


@pytest.fixture(scope='module')
def sizes(official):
    return json.loads(official.path('preprocess_sizes.json').read_text())


@pytest.fixture(scope='module')
def example(official):
    return official.rule.image(*SIZE), official.rule.label(*SIZE, 21).astype(np.uint8)


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scales')
    reader = make_reader('folder', write_folder(folder / 'own', IDS), num_classes=4)
    return RecordSet(write_records(reader, {'train': IDS}, folder / 'records', progress=False))


def test_sizes_of_a_range_are_the_official_ones(sizes):
    listed = [row for row in sizes if 'out' in row]
    assert len(listed) == 8
    for row in listed:
        wanted = SizeRange(row['min_size'], row['max_size'], row['factor'])
        assert wanted.size(row['h'], row['w']).numpy().tolist() == row['out']
        in_a_graph = tf.function(wanted.size)(tf.constant(row['h']), tf.constant(row['w']))
        assert in_a_graph.numpy().tolist() == row['out']


@hypothesis.given(st.integers(8, 600), st.integers(8, 600), st.integers(33, 400),
                  st.integers(0, 400), st.sampled_from([None, 8, 16]))
@hypothesis.settings(deadline=None, max_examples=60)
def test_a_range_keeps_its_bounds(height, width, least, room, factor):
    size = SizeRange(least, least + room, factor).size(height, width).numpy()
    assert 1 <= size.min() and size.max() <= least + room
    if factor:
        assert ((size - 1) % factor == 0).all()


def test_an_image_and_its_label_resized_to_a_range(numbers, example):
    size = SizeRange(129, 200, 16).size(*SIZE)
    image, label = official_preprocessing.resized(*map(tf.constant, example), size)
    assert image.dtype == tf.float32 and label.dtype == tf.uint8
    np.testing.assert_array_equal(label, numbers['rtr_label'])
    np.testing.assert_allclose(image[::7, ::7], numbers['rtr_image_7'], atol=1e-3)


@pytest.mark.parametrize('factor', [0.5, 0.75, 1.25, 2.0])
def test_a_scaled_image_is_the_official_one(numbers, example, factor):
    if f'scale_{factor:.2f}_shape' not in numbers:
        pytest.skip('not among the committed numbers: it lies in ../shared/reference')
    size = official_preprocessing.scaled_size(*SIZE, np.float32(factor))
    assert size.numpy().tolist() == numbers[f'scale_{factor:.2f}_shape'].tolist()[:2]
    image, label = official_preprocessing.resized(*map(tf.constant, example), size)
    np.testing.assert_array_equal(label, numbers[f'scale_{factor:.2f}_label'])
    np.testing.assert_allclose(image[::7, ::7], numbers[f'scale_{factor:.2f}_image_7'], atol=1e-3)


def test_padding_is_the_official_one(numbers, sizes, example):
    """Every network pads with the colour that its own first layer turns into 0."""
    means = {row['model_variant']: row['mean_pixel'] for row in sizes if 'mean_pixel' in row}
    assert means['resnet_v1_50'] == list(layers.IMAGENET_MEAN)
    assert means['xception_65'] == [augment.PAD_VALUE] * 3
    tested = [name for name in means if f'pad_{name}_image_7' in numbers]
    assert {'mobilenet_v2', 'resnet_v1_50'} <= set(tested)
    for name in tested:
        image, label = augment.pad_to(*example, 129, 193, means[name])
        np.testing.assert_allclose(image[::7, ::7], numbers[f'pad_{name}_image_7'], atol=1e-4)
        np.testing.assert_array_equal(label, numbers['pad_label'])


def test_align_corners_resizes_are_the_official_ones(numbers, official):
    maps = numbers['resize_in']
    ids = official.rule.label(33, 49, 21)
    seen = 0
    for name, expected in numbers.items():
        kind, _, size = name.rpartition('_')
        if kind not in ('resize_bilinear', 'resize_nearest'):
            continue
        size = tuple(map(int, size.split('x')))
        seen += 1
        if kind == 'resize_bilinear':
            np.testing.assert_allclose(resize.resize_bilinear(maps, size), expected, atol=1e-5)
            ours = official_preprocessing.resized_map(tf.constant(maps[0]), size)
            np.testing.assert_allclose(ours, expected[0], atol=1e-5)
        else:
            ours = official_preprocessing.resized_map(tf.constant(ids), size)
            np.testing.assert_array_equal(ours, expected)
            np.testing.assert_array_equal(
                resize.resize_nearest(ids[None, ..., None], size)[0, ..., 0], expected)
    assert seen >= 3


def test_scaled_dimensions_are_the_official_ones(numbers):
    for dimension, scale, expected in numbers['scale_dimension']:
        assert resize.scale_dimension(int(dimension), float(scale)) == expected
        assert int(resize.scale_dimension(tf.constant(int(dimension)), float(scale))) == expected


def test_a_map_of_bytes_is_rounded_and_keeps_its_type():
    values = tf.constant(np.array([[[0], [255]]], np.uint8))
    ours = official_preprocessing.resized_map(values, (1, 4))
    assert ours.dtype == tf.uint8 and ours.numpy().ravel().tolist() == [0, 85, 170, 255]


def drawn_by(scale, seeds):
    """The factor of each seed, float32 [N]."""
    return tf.function(lambda: tf.map_fn(scale.draw, seeds, tf.float32))().numpy()


def test_factors_are_drawn_alike_and_from_the_seed_alone():
    official_scale = RandomScale(0.5, 2.0, 0.25)
    assert official_scale.factors().tolist() == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert len(RandomScale(0.5, 2.0, 0.1).factors()) == 16
    seeds = tf.constant([[3, i] for i in range(2100)])
    drawn = drawn_by(official_scale, seeds)
    factors, counts = np.unique(drawn, return_counts=True)
    assert factors.tolist() == official_scale.factors().tolist()
    assert np.abs(counts - 300).max() < 5 * np.sqrt(300)
    np.testing.assert_array_equal(drawn[7], official_scale.draw(seeds[7]))
    free = drawn_by(RandomScale(0.5, 2.0, 0.0), seeds)
    assert 0.5 <= free.min() < 0.51 and 1.99 < free.max() <= 2.0 and len(set(free)) > 2000


def test_scales_and_ranges_that_are_none_are_refused():
    for arguments in ((0.0, 1.0), (1.0, 0.5), (0.5, 2.0, -0.1), ('half', 2.0)):
        with pytest.raises(UserError, match='0 < minimum <= maximum'):
            RandomScale(*arguments)
    for numbers in ((0, 10), (None,), (9, 0), (9, None, -1), ('a', 9), (9.5,)):
        with pytest.raises(UserError, match='at least 1'):
            SizeRange(*numbers)
    assert not RandomScale().active and RandomScale(1.0, 2.0).active


def batches(records, first_step, num_steps, **options):
    return list(pipeline.training_batches(records, IDS, 4, CROP, RandomStreams(0), first_step,
                                          num_steps, **options).as_numpy_iterator())


def test_scaled_batches_are_a_function_of_seed_and_step(records):
    official_scale = RandomScale(0.5, 2.0, 0.25)
    whole = batches(records, 0, 8, recipe=Recipe(random_scale=official_scale))
    later = batches(records, 5, 3, recipe=Recipe(random_scale=official_scale), num_parallel_calls=1)
    for one, other in zip(whole[5:], later):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    plain = batches(records, 0, 8)
    assert not all(np.array_equal(a['image'], b['image']) for a, b in zip(whole, plain))
    unscaled = batches(records, 0, 8, recipe=Recipe(random_scale=RandomScale()))
    assert all(np.array_equal(a['image'], b['image']) for a, b in zip(unscaled, plain))


def test_image_and_label_are_scaled_by_one_draw(records):
    """The red channel of test images says the label: nearest and bilinear agree within areas."""
    seen = set()
    for batch in batches(records, 0, 10, recipe=Recipe(random_scale=RandomScale(0.5, 2.0, 0.25))):
        for image, label in zip(batch['image'], batch['label']):
            inside = label != 255
            assert ((image != 127.5).any(-1) | ~inside).all()
            same = np.abs(image[..., 0] - label * 30.0)[inside] < 1.0
            assert same.mean() > 0.6
            seen.add(tuple(np.argwhere((image != 127.5).any(-1)).max(0)))
    assert len(seen) > 5


def test_batches_of_one_size_range_padded_with_a_colour(records):
    recipe = Recipe(flip=False, size_range=SizeRange(17, 33, 16))
    batch = batches(records, 0, 1, recipe=recipe, pad_value=(1.0, 2.0, 3.0))[0]
    for image, label in zip(batch['image'], batch['label']):
        height, width = np.argwhere((image != [1.0, 2.0, 3.0]).any(-1)).max(0) + 1
        assert {height, width} <= {17, 33} and (label[height:] == 255).all()
        assert (label[:, width:] == 255).all()
