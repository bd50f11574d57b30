"""Augmentation and batches: image and label move together, and (seed, step) says it all."""
import gc
import json
import os
import socket
import subprocess
import sys
import tracemalloc

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
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records

IDS = [f'p{i}' for i in range(9)]
CROP = (49, 57)  # holds every image
SMALL = (33, 33)  # smaller than most


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('batches')
    reader = make_reader('folder', write_folder(folder / 'own', IDS), num_classes=4)
    return RecordSet(write_records(reader, {'train': IDS}, folder / 'records', progress=False))


def batches(records, first_step, num_steps, seed=0, crop=CROP, size=4, **options):
    return list(pipeline.training_batches(records, IDS, size, crop, RandomStreams(seed),
                                          first_step, num_steps, **options).as_numpy_iterator())


def same(left, right):
    return len(left) == len(right) and all(
        np.array_equal(a[key], b[key]) for a, b in zip(left, right) for key in a)


def assert_together(image, label):
    """The red channel of test images says the label."""
    expected = np.where(label == 255, 200, label * 30).astype(np.float32)
    padding = (image == 127.5).all(axis=-1)
    assert (label[padding] == 255).all()
    np.testing.assert_array_equal(image[..., 0][~padding], expected[~padding])


@pytest.mark.parametrize('crop', [CROP, SMALL])
def test_resuming_gives_the_batches_it_would_have_had(records, crop):
    whole = batches(records, 0, 12, crop=crop)
    assert same(whole[7:], batches(records, 7, 5, crop=crop))
    assert same(whole, batches(records, 0, 12, crop=crop, num_parallel_calls=1, prefetch=1))
    assert not same(whole, batches(records, 0, 12, seed=1, crop=crop))


def test_endless_batches_start_like_finite_ones(records):
    endless = pipeline.training_batches(records, IDS, 4, CROP, RandomStreams(0), 1000)
    assert same(list(endless.take(3).as_numpy_iterator()), batches(records, 1000, 3))


def test_batches_are_the_concatenation_of_epochs(records):
    drawn = np.concatenate([b['index'] for b in batches(records, 0, 9)])
    for epoch in range(4):
        order = pipeline.epoch_order(IDS, RandomStreams(0), epoch)
        assert sorted(order) == IDS
        assert [IDS[i] for i in drawn[9 * epoch:9 * epoch + 9]] == order
    for batch in batches(records, 0, 3):
        assert [i.decode() for i in batch['image_id']] == [IDS[i] for i in batch['index']]


def test_contract_of_a_batch(records):
    dataset = pipeline.training_batches(records, IDS, 4, CROP, RandomStreams(0), 0, 1)
    shapes = {key: (spec.shape, spec.dtype) for key, spec in dataset.element_spec.items()}
    assert shapes == {'image': ([4, 49, 57, 3], tf.float32), 'label': ([4, 49, 57], tf.int32),
                      'image_id': ([4], tf.string), 'index': ([4], tf.int32)}


@pytest.mark.parametrize('crop', [CROP, SMALL, (33, 57)])
def test_image_and_label_move_together(records, crop):
    for batch in batches(records, 3, 6, crop=crop):
        for image, label in zip(batch['image'], batch['label']):
            assert_together(image, label)


def test_flips_are_half_of_the_draws_and_can_be_switched_off(records):
    flipped = batches(records, 0, 40)
    plain = batches(records, 0, 40, recipe=recipes.Recipe(flip=False))
    moved = []
    for left, right in zip(flipped, plain):
        for a, b in zip(left['image'], right['image']):
            moved.append(not np.array_equal(a, b))
            np.testing.assert_array_equal(a, b[:, ::-1] if moved[-1] else b)
    assert 0.35 < np.mean(moved) < 0.65


def test_crops_are_drawn_from_all_over_the_image(records):
    first = {b['image'][0].tobytes()
             for b in pipeline.training_batches(records, ['p0'], 1, SMALL, RandomStreams(0), 0,
                                                20, recipe=recipes.Recipe(flip=False))
             .as_numpy_iterator()}
    assert len(first) > 15


def test_any_whole_number_is_a_seed(records):
    assert not same(batches(records, 0, 1, seed=2 ** 40), batches(records, 0, 1, seed=-1))


def test_streams_are_separate(records):
    usual = batches(records, 0, 3)
    other_order = batches(records, 0, 3, stream='diagnostics')
    assert not np.array_equal(usual[0]['index'], other_order[0]['index'])
    other_flips = batches(records, 0, 3, augment_stream='diagnostics')
    assert all(np.array_equal(a['index'], b['index']) for a, b in zip(usual, other_flips))
    assert not same(usual, other_flips)


def test_two_replicas_get_the_same_global_batch(records, two_replicas):
    dataset = pipeline.training_batches(records, IDS, 5, CROP, RandomStreams(0), 2, 3)
    plain = list(dataset.as_numpy_iterator())
    split = list(two_replicas.experimental_distribute_dataset(dataset))
    assert len(split) == len(plain)
    for whole, parts in zip(plain, split):
        values = two_replicas.experimental_local_results(parts['image'])
        assert [v.shape[0] for v in values] == [3, 2]
        np.testing.assert_array_equal(tf.concat(values, axis=0).numpy(), whole['image'])


WORKER = '''
import json, sys
from tf_advseg.core import runtime
tf = runtime.configure()
strategy = tf.distribute.MultiWorkerMirroredStrategy()
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import pipeline, recipes
from tf_advseg.data.records.record_set import RecordSet
from tf_advseg.training import loop
records = RecordSet(sys.argv[1])
batches = pipeline.training_batches(records, records.ids, 5, (33, 33), RandomStreams(0), 2, 6,
                                    recipe=recipes.make_recipe('deeplab'))
local = strategy.experimental_local_results
print(json.dumps([[(int(i), float(tf.reduce_sum(image)))
                   for i, image in zip(local(b['index'])[0], local(b['image'])[0])]
                  for b in loop.distribute(batches, strategy)]))
'''


@pytest.mark.slow
def test_two_workers_share_each_global_batch(records):
    """No example twice in a step, none left out, the same ones as in one process."""
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(('localhost', 0))
        cluster = {'worker': [f'localhost:{free.getsockname()[1]}' for free in (one, other)]}
    workers = [subprocess.Popen(
        [sys.executable, '-c', WORKER, str(records.folder)], text=True, stdout=subprocess.PIPE,
        env={**os.environ, 'TF_CONFIG': json.dumps(
            {'cluster': cluster, 'task': {'type': 'worker', 'index': index}})})
        for index in range(2)]
    try:
        shares = [json.loads(worker.communicate(timeout=300)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    whole = batches(records, 2, 6, crop=SMALL, size=5, recipe=recipes.make_recipe('deeplab'))
    assert [len(share) for share in shares] == [6, 6]
    for first, second, batch in zip(*shares, whole):
        assert first and second
        # Examples, not images: a batch over the border of two epochs may cut one image twice.
        assert [index for index, _ in first + second] == batch['index'].tolist()
        np.testing.assert_allclose([total for _, total in first + second],
                                   batch['image'].sum((1, 2, 3), np.float64), rtol=1e-5)


def test_one_device_gets_the_whole_batch(records):
    dataset = pipeline.training_batches(records, IDS, 5, CROP, RandomStreams(0), 2, 3)
    distributed = tf.distribute.OneDeviceStrategy('/cpu:0').experimental_distribute_dataset(dataset)
    for whole, batch in zip(dataset.as_numpy_iterator(), distributed):
        np.testing.assert_array_equal(batch['image'], whole['image'])


def test_whole_images_in_order_padded_and_unflipped(records):
    found = list(pipeline.whole_images(records, IDS, CROP, 4).as_numpy_iterator())
    assert [len(b['index']) for b in found] == [4, 4, 1]
    assert np.concatenate([b['index'] for b in found]).tolist() == list(range(9))
    for batch in found:
        for image_id, image, label in zip(batch['image_id'], batch['image'], batch['label']):
            expected, ids = records.load(image_id.decode())
            height, width = ids.shape
            np.testing.assert_array_equal(image[:height, :width], expected)
            np.testing.assert_array_equal(label[:height, :width], ids)
            assert (image[height:] == 127.5).all() and (image[:, width:] == 127.5).all()
            assert (label[height:] == 255).all() and (label[:, width:] == 255).all()


def test_whole_images_larger_than_the_crop(records):
    found = list(pipeline.whole_images(records, IDS, SMALL, 4).as_numpy_iterator())
    assert np.concatenate([b['index'] for b in found]).tolist() == list(range(9))
    sizes = {0: (49, 65), 1: (33, 49), 2: (49, 33), 3: (49, 49)}
    for batch in found:
        for index, image in zip(batch['index'], batch['image']):
            assert image.shape[:2] == sizes[index % 4]
    same_size = ['p0', 'p4', 'p8', 'p1']
    lengths = [len(b['index']) for b in pipeline.whole_images(
        records, same_size, SMALL, 2).as_numpy_iterator()]
    assert lengths == [2, 1, 1]
    strides = [next(iter(pipeline.whole_images(records, ['p1'], (1, 1), 1, multiple=multiple)))
               ['image'].shape[1:3] for multiple in (8, 32)]
    height, width = records.image_sizes(['p1'])[0]
    assert strides == [[-(-(side - 1) // multiple) * multiple + 1 for side in (height, width)]
                       for multiple in (8, 32)]
    images, _, _ = pipeline.evaluation_arrays(records, ['p1'], (1, 1), multiple=8)
    assert list(images.shape[1:3]) == strides[0]


@hypothesis.given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 9), st.integers(0, 9))
@hypothesis.settings(deadline=None)
def test_padded_sizes_fit_the_grid(height, width, k, m):
    crop = (16 * k + 1, 16 * m + 1)
    padded = pipeline.padded_sizes([(height, width)], crop)[0]
    for size, side, least in zip((height, width), padded, crop):
        assert side % 16 == 1 and side >= max(size, least)
        assert side == least or side - size < 16


@pytest.mark.parametrize('crop', [CROP, (33, 57)])
def test_cached_arrays_give_what_whole_images_give(records, crop):
    images, labels, sizes = pipeline.evaluation_arrays(records, IDS, crop)
    assert images.dtype == labels.dtype == np.uint8 and sizes.dtype == np.int32
    assert images.shape[:3] == labels.shape
    batch = pipeline.padded_batch(images, labels, sizes)
    assert batch['image'].dtype == tf.float32 and batch['label'].dtype == tf.int32
    start = 0
    for expected in pipeline.whole_images(records, IDS, images.shape[1:3],
                                          4).as_numpy_iterator():
        stop = start + len(expected['index'])
        np.testing.assert_array_equal(batch['image'][start:stop], expected['image'])
        np.testing.assert_array_equal(batch['label'][start:stop], expected['label'])
        start = stop
    assert start == len(IDS)


def test_data_sets_that_are_gone_leave_no_memory_behind(records):
    many = IDS * 1000

    def make(step):
        for dataset in (pipeline.training_batches(records, many, 2, CROP, RandomStreams(0), step),
                        pipeline.whole_images(records, many[:50], CROP, 2)):
            next(iter(dataset))

    make(0)
    gc.collect()
    tracemalloc.start()
    try:
        for step in range(2):
            make(step)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # One copy of the positions alone is 72 KB.
    assert grown < 2 * 40_000


def test_no_images_are_refused(records):
    for call in (lambda: batches_of_none(records),
                 lambda: pipeline.whole_images(records, [], CROP, 2),
                 lambda: pipeline.evaluation_arrays(records, [], CROP)):
        with pytest.raises(UserError, match='empty list of images'):
            call()


def batches_of_none(records):
    return pipeline.training_batches(records, [], 2, CROP, RandomStreams(0), 0, 1)


@hypothesis.given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 5), st.integers(0, 5),
                  st.integers(-2 ** 31, 2 ** 31 - 1))
@hypothesis.settings(max_examples=50, deadline=None)
def test_pad_flip_and_crop_move_everything_together(height, width, down, right, seed):
    """A label that spells its own place, and an image that repeats it, stay in step."""
    label = (np.arange(height * width) % 251).reshape(height, width).astype(np.uint8)
    image = np.stack([label] * 3, axis=-1)
    seed = tf.constant([seed, 7])
    padded = augment.pad_to(image, label, height + down, width + right)
    moved, moved_label = augment.random_flip(padded, seed)
    crop_size = (max(1, height // 2), max(1, width // 2))
    top, left = augment.random_crop_offsets(height + down, width + right, crop_size, seed)
    moved = augment.crop(moved, top, left, crop_size).numpy()
    moved_label = augment.crop(moved_label, top, left, crop_size).numpy()
    assert moved.shape[:2] == moved_label.shape == crop_size
    expected = np.where(moved_label == 255, 127.5, moved_label.astype(np.float32))
    np.testing.assert_array_equal(moved, np.stack([expected] * 3, axis=-1))


def test_maps_at_a_stride_flip_with_their_image():
    image = tf.reshape(tf.range(33 * 49), [33, 49])
    for step in range(6):
        seed = tf.constant([step, 1])
        big, small = augment.random_flip((image, image[::16, ::16, None]), seed)
        np.testing.assert_array_equal(big[::16, ::16], small[..., 0])


@pytest.mark.parametrize('multiple', [1, 16])
def test_crop_offsets_fit_and_reach_both_ends(multiple):
    offsets = [[int(v) for v in augment.random_crop_offsets(
        65, 33, (33, 33), tf.constant([i, 3]), multiple)] for i in range(60)]
    tops = {top for top, _ in offsets}
    assert {left for _, left in offsets} == {0}
    assert all(top % multiple == 0 and 0 <= top <= 32 for top in tops)
    assert len(tops) == 3 if multiple == 16 else len(tops) > 15


def test_padding_to_less_than_the_image_raises():
    with pytest.raises(tf.errors.InvalidArgumentError):
        augment.pad_to(np.zeros([4, 4, 3], np.uint8), np.zeros([4, 4], np.uint8), 3, 4)


def test_data_sets_from_ever_new_steps_leave_no_number_behind():
    def left(first_of, count=300):
        gc.collect()
        before = sys.getallocatedblocks()
        for number in range(count):
            pipeline.step_range(first_of(number), 2, batch_size=3)
        gc.collect()
        return (sys.getallocatedblocks() - before) / count

    again = 10 ** 6  # what is cached once, and what a tensor costs on this Python, is in both
    left(lambda number: again)
    assert left(lambda number: again + number) < left(lambda number: again) + 0.5
    assert list(pipeline.step_range(4, 2, batch_size=3).as_numpy_iterator()) == list(range(12, 18))
