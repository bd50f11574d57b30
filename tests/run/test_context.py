"""What the parts of an experiment share."""
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import random_streams
from tf_advseg.data import pipeline
from tf_advseg.models import deeplab
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets

SIDE = 33


def test_who_evaluates_the_hold_out_is_handed_the_same_evaluator():
    arrays = (np.zeros([2, SIDE, SIDE, 3], np.uint8), np.zeros([2, SIDE, SIDE], np.uint8),
              np.full([2, 2], SIDE, np.int32))
    context = contexts.Context(
        run=None, data=None, strategy=tf.distribute.get_strategy(),
        streams=random_streams.RandomStreams(0), crop_size=(SIDE, SIDE), description=None,
        _arrays={'holdout': arrays})
    first, second = (deeplab.deeplab_mobilenet_v2(3, depth_multiplier=0.25, crop_size=(SIDE, SIDE))
                     for _ in range(2))
    evaluator = context._holdout_evaluator(first, 8)
    assert context._holdout_evaluator(first, 8) is evaluator and evaluator.segmentor is first
    assert context._holdout_evaluator(first, 1) is not evaluator
    assert context._holdout_evaluator(second, 8).segmentor is second


@pytest.mark.parametrize('bytes_of_a_hold_out, decoded', [(4 * 3 * 49 * 49, True),
                                                          (4 * 3 * 49 * 49 - 1, False)])
def test_a_large_hold_out_is_read_anew_and_counts_the_same(tmp_path, monkeypatch,
                                                           bytes_of_a_hold_out, decoded):
    records = datasets.prepare('shapes', None, tmp_path / 'records', {
        'num_train': 2, 'num_val': 3, 'num_test': 1, 'size': (49, 49), 'smallest': (40, 40)},
        show=False)
    data = datasets.ExperimentData(records, records.split('train'), records.split('val'), [],
                                   records.split('test'))
    context = contexts.Context(
        run=None, data=data, strategy=tf.distribute.get_strategy(),
        streams=random_streams.RandomStreams(0), crop_size=(49, 49), description=None)
    network = deeplab.deeplab_mobilenet_v2(8, depth_multiplier=0.25, crop_size=(49, 49))
    monkeypatch.setattr(contexts, 'MOST_CACHED', bytes_of_a_hold_out)
    counts = context.holdout_counts(network)
    assert ('holdout' in context._arrays) == decoded
    np.testing.assert_array_equal(counts, context.counts(network, data.holdout))
    arrays = pipeline.evaluation_arrays(records, data.holdout, (49, 49))
    assert arrays[0].nbytes + arrays[1].nbytes == 4 * 3 * 49 * 49


def test_of_many_images_of_a_name_tensorboard_gets_few(tmp_path):
    class Trackers:
        steps = []

        def image(self, part, name, step, array):
            self.steps.append((name, step))

    board = contexts.Board(tmp_path / 'tensorboard', trackers=Trackers())
    for step in range(300):
        board.image('panels', step, np.zeros([2, 3, 3], np.uint8))
    board.image('others', 7, np.zeros([2, 3, 3], np.uint8))
    steps = [step for name, step in Trackers.steps if name == 'panels']
    assert steps[:16] == list(range(16)) and steps[-1] >= 256 and len(steps) < 60
    assert max(b / a for a, b in zip(steps[8:], steps[9:])) <= 1.125
    assert ('others', 7) in Trackers.steps
    events = [value.tag for path in (tmp_path / 'tensorboard').glob('events*')
              for event in tf.compat.v1.train.summary_iterator(str(path))
              for value in event.summary.value]
    assert events.count('panels') == len(steps) and events.count('others') == 1


def events_of(folder):
    """[(step, tag, metadata, the number's bytes)] of the values that TensorBoard reads, in order."""
    return [(event.step, value.tag, value.metadata.SerializeToString(),
             tf.make_ndarray(value.tensor).tobytes())
            for path in folder.glob('events*')
            for event in tf.compat.v1.train.summary_iterator(str(path))
            for value in event.summary.value]


def test_tensorboard_reads_what_tf_summary_would_have_written(tmp_path):
    values = {'loss/ce': 0.1, 'right': True, 'slots': 3, 'broken': float('nan')}
    board = contexts.Board(tmp_path / 'ours')
    for step in (5, 2 ** 40):
        board.scalars(step, values)
    board.scalars(7, {})
    board._writer.flush()
    with tf.summary.create_file_writer(str(tmp_path / 'theirs')).as_default():
        for step in (5, 2 ** 40):
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
    found = events_of(tmp_path / 'ours')
    assert found == events_of(tmp_path / 'theirs') and len(found) == 8


def test_numbers_that_tensorboard_gets_are_kept_by_nobody(tmp_path):
    board = contexts.Board(tmp_path)
    value, step = float('0.123456789'), int('123456789')
    before = sys.getrefcount(value), sys.getrefcount(step)
    board.scalars(step, {'loss': value})
    board.image('panel', step, np.zeros([2, 3, 3], np.uint8))
    board._writer.flush()
    assert (sys.getrefcount(value), sys.getrefcount(step)) == before
    assert {tag for _, tag, _, _ in events_of(tmp_path)} == {'loss', 'panel'}
