"""methods/hung/confidence_maps.py: the points, the padding and the numbers, against plain NumPy."""
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import fully_convolutional
from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import shapes
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.data.records import record_writing
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.methods.hung import confidence_maps
from tf_advseg.methods.hung import hung_settings
from tf_advseg.models import farabet, resize
from tf_advseg.run import context as contexts

CROP, STRIDE = (65, 65), 1
OPTIONS = {'num_train': 5, 'num_val': 2, 'num_test': 2, 'size': (70, 60), 'smallest': (50, 50)}


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp('judged') / 'records'
    reader = shapes.ShapesReader(**OPTIONS)
    record_writing.write_records(reader, reader.splits(), folder)
    return record_sets.RecordSet(folder)


@pytest.fixture(scope='module')
def segmentor():
    network = farabet.farabet(num_classes=8, hidden=8, seed=1)
    last = network.trainable_variables[-2]
    last.assign(last * 30.0)  # spread, untrained logits give several classes
    return network


@pytest.fixture(scope='module')
def discriminator():
    return fully_convolutional.build_fc_discriminator(num_classes=8, widths=(4, 6), seed=2)


@pytest.fixture(scope='module')
def judge(segmentor, discriminator):
    return confidence_maps.Judge(segmentor, discriminator, STRIDE, CROP)


def alone(records, image_id, segmentor, discriminator):
    """(ids, softmax, disc) of one image at its own pixels, by hand, for a map stride of 1."""
    image, label = records.load(image_id)
    size = [CROP[i] if side <= CROP[i] else side + -(side - 1) % segmentor.output_stride
            for i, side in enumerate(label.shape)]
    padded = np.full((1, *size, 3), 127.5, np.float32)
    padded[0, :label.shape[0], :label.shape[1]] = image
    own = np.zeros((1, *size), bool)
    own[0, :label.shape[0], :label.shape[1]] = True
    logits = resize.resize_bilinear(segmentor(padded, training=False), size)
    chances = tf.nn.softmax(logits).numpy()
    disc = 1 / (1 + np.exp(-discriminator(chances * own[..., None]).numpy()))
    inside = 0, slice(label.shape[0]), slice(label.shape[1])
    return chances.argmax(-1)[inside], chances.max(-1)[inside], disc[inside]


def test_every_point_is_what_the_networks_say_of_the_image_alone(records, judge, segmentor,
                                                                 discriminator):
    ids = records.splits['train']
    found = list(judge.over(records, ids))
    assert [one.image_id for one in found] == ids
    assert len({one.ids.shape for one in found}) > 1  # images of several sizes
    for one in found:
        predicted, softmax, disc = alone(records, one.image_id, segmentor, discriminator)
        label = records.load(one.image_id)[1]
        np.testing.assert_array_equal(one.labels, label)
        assert (one.ids == predicted).mean() > 0.999
        np.testing.assert_allclose(one.softmax, softmax, atol=1e-5)
        np.testing.assert_allclose(one.disc, disc, atol=1e-5)
        np.testing.assert_array_equal(one.valid, label != 255)
        np.testing.assert_array_equal(one.correct, one.ids == label)


def test_counts_are_of_labelled_points_alone(records, judge):
    ids = records.splits['train']
    softmax, disc = confidence_maps.measure(judge, records, ids, (0, 0.5))
    found = list(judge.over(records, ids))
    for counts, values in ((softmax, [one.softmax for one in found]),
                           (disc, [one.disc for one in found])):
        valid = np.concatenate([one.valid.ravel() for one in found])
        flat = np.concatenate([value.ravel() for value in values])
        correct = np.concatenate([one.correct.ravel() for one in found])
        assert counts.points == valid.sum() < valid.size
        assert counts.selected(0.5) == (valid & (flat > 0.5)).sum()
        assert counts.right == (valid & correct).sum()


def test_a_grid_of_its_own_and_softmax_alone(records, segmentor, discriminator):
    image_id = records.splits['val'][0]
    height, width = records.load(image_id)[1].shape
    judge = confidence_maps.Judge(segmentor, discriminator, 4, CROP)
    coarse = next(judge.over(records, [image_id]))
    assert coarse.ids.shape == coarse.disc.shape == coarse.labels.shape
    assert abs(coarse.ids.shape[0] - height / 4) <= 1 and abs(coarse.ids.shape[1] - width / 4) <= 1
    own = confidence_maps.Judge(segmentor, crop_size=CROP)
    assert own.map_stride == segmentor.logits_stride
    assert next(own.over(records, [image_id])).disc is None
    assert confidence_maps.measure(own, records, [image_id])[1] is None


def test_classes_of_another_numbering_and_of_none(records, segmentor, judge):
    image_id = records.splits['val'][0]
    plain = next(judge.over(records, [image_id]))
    names = np.array([1, 0, 2, 3, 4, 5, 6, -1])
    other = next(confidence_maps.Judge(segmentor, crop_size=CROP, map_stride=STRIDE,
                                       translation=names).over(records, [image_id]))
    np.testing.assert_array_equal(other.ids, names[plain.ids])
    assert not other.correct[(plain.ids == 7)].any()


def test_what_cannot_judge_points_is_refused(segmentor):
    whole = fully_convolutional.build_fc_discriminator(
        num_classes=8, kind='image', widths=(4,), map_size=(65, 65))
    with pytest.raises(UserError, match='decides once for an image'):
        confidence_maps.Judge(segmentor, whole, 1)
    with pytest.raises(UserError, match='maps of 3 classes, and the segmentor has 8'):
        confidence_maps.Judge(segmentor, fully_convolutional.build_fc_discriminator(
            num_classes=3, widths=(4,)), 1)


def monitor_of(records, segmentor, discriminator, holdout):
    context = types.SimpleNamespace(
        data=types.SimpleNamespace(records=records, holdout=holdout), crop_size=CROP)
    return confidence_maps.Monitor(context, segmentor, discriminator, STRIDE)


def test_a_monitor_follows_the_networks_as_they_change(records, segmentor):
    discriminator = fully_convolutional.build_fc_discriminator(num_classes=8, widths=(4, 6), seed=2)
    monitor = monitor_of(records, segmentor, discriminator, records.splits['val'])
    line, = monitor.lines(10)
    assert (line['event'], line['split']) == ('confidence', 'holdout')
    assert line['disc/share@0'] == 1 and 0 <= line['disc/auc'] <= 1 and 'softmax/auc' in line
    assert line['disc/share@0.2'] == 1.0  # an untrained discriminator says about a half
    discriminator.last.variables[-1].assign([-20.0])
    after, = monitor.lines(20)
    assert after['disc/share@0.2'] == 0.0 and after['disc/accuracy@0.2'] is None
    assert after['softmax/accuracy@0.2'] is None and after['disc/share@0'] == 1.0
    assert after['softmax/auc'] == line['softmax/auc']
    image = monitor.panel()
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    again = monitor.panel()
    np.testing.assert_array_equal(image, again)


def test_a_stage_whose_discriminator_judges_points_is_monitored(records, segmentor, discriminator):
    context = types.SimpleNamespace(crop_size=CROP, data=types.SimpleNamespace(
        records=records, holdout=records.splits['val']))
    shown = {}
    board = types.SimpleNamespace(image=lambda name, step, array: shown.update(
        {(name, step): array}))
    method = types.SimpleNamespace(
        judges_points=True, discriminator=discriminator, segmentor=segmentor,
        settings=hung_settings.Settings(threshold=0.25, map_stride=STRIDE))
    monitor, = recipes.find('hung').monitors(context, method, board)
    line, = monitor.lines(40)
    assert {'disc/share@0.25', 'disc/share@0.2'} <= set(line)  # the method's own T, too
    assert list(shown) == [('confidence', 40)] and shown['confidence', 40].ndim == 3
    method.judges_points = False
    assert recipes.find('hung').monitors(context, method, board) == () and len(shown) == 1


def test_no_holdout_no_lines(records, segmentor, discriminator):
    monitor = monitor_of(records, segmentor, discriminator, [])
    assert monitor.lines(1) == [] and monitor.panel() is None


def test_a_board_keeps_images(tmp_path):
    board = contexts.Board(tmp_path)
    board.image('confidence', 7, np.full((4, 6, 3), 9, np.uint8))
    board._writer.close()
    file, = tmp_path.iterdir()
    found = [(event.step, value) for event in tf.compat.v1.train.summary_iterator(str(file))
             for value in event.summary.value if value.tag == 'confidence']
    (step, value), = found
    width, height, png = value.tensor.string_val[:3]
    assert (step, width, height) == (7, b'6', b'4')
    np.testing.assert_array_equal(tf.io.decode_png(png), np.full((4, 6, 3), 9))


def test_large_images_come_in_smaller_batches(segmentor, discriminator):
    judge = confidence_maps.Judge(segmentor, discriminator, 1, CROP)
    sizes = np.array([[65, 65], [1024, 2048]])
    assert judge._batch_size(sizes[:1], 8) == confidence_maps.BATCH_SIZE
    assert judge._batch_size(sizes, 8) == 1
    assert confidence_maps.Judge(segmentor, discriminator, 8, CROP)._batch_size(sizes, 8) == 4
