"""tf_advseg.load(...).predict(...): what the tools give, from Python, of any image."""
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tf_advseg
from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import map_predictor
from tf_advseg.evaluation import prediction


@pytest.fixture(scope='module')
def model(made_run):
    return tf_advseg.load(made_run.path)


@pytest.fixture
def image(made_run):
    return made_run.data.records.load(made_run.data.test[0])[0]


def test_importing_the_package_imports_neither_tensorflow_nor_matplotlib():
    program = ('import sys, tf_advseg; assert "tensorflow" not in sys.modules; '
               'assert "matplotlib" not in sys.modules; print(sorted(dir(tf_advseg))[0])')
    found = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert found.returncode == 0 and 'Model' in found.stdout
    with pytest.raises(AttributeError, match='no attribute'):
        tf_advseg.loda


@pytest.mark.parametrize('kind', ['path', 'PIL', 'array', 'text'])
def test_an_image_however_it_comes(model, made_run, image, tmp_path, kind):
    path = tmp_path / 'image.png'
    Image.fromarray(image).save(path)
    source = {'path': path, 'text': str(path), 'PIL': Image.fromarray(image), 'array': image}[kind]
    found = model.predict(source, probabilities=True)
    expected = prediction.predict(made_run.segmentor, image, (49, 49))
    np.testing.assert_array_equal(found.ids, expected)
    np.testing.assert_array_equal(found.image, image)
    assert found.path == (path if kind in ('path', 'text') else None)
    np.testing.assert_array_equal(found.probabilities.argmax(-1), expected)
    np.testing.assert_allclose(found.probabilities.sum(-1), 1.0, atol=1e-5)
    assert found.names == tuple(made_run.data.spec.class_names) == model.names
    assert model.predict(source).probabilities is None


def test_many_images_of_any_size(model, image, tmp_path):
    tall = np.repeat(image, 2, axis=0)
    names = ('a.png', 'b.png')
    for name, one in zip(names, (image, tall)):
        Image.fromarray(one).save(tmp_path / name)
    expected = [model.predict(one).ids for one in (image, tall)]
    assert expected[1].shape[0] == 2 * expected[0].shape[0]
    of_folder, of_pattern = (model.predict(source) for source in (tmp_path, f'{tmp_path}/*.png'))
    of_generator = model.predict(one for one in (image, tall))
    for found in (of_folder, of_pattern, of_generator):
        assert not isinstance(found, list)  # they need not fit into memory
    for found in (of_folder, of_pattern, of_generator, model.predict([image, tall])):
        found = list(found)
        assert len(found) == 2
        for one, ids in zip(found, expected):
            np.testing.assert_array_equal(one.ids, ids)
    batch = model.predict(np.stack([image, image[:, ::-1]]))
    assert isinstance(batch, list) and len(batch) == 2
    np.testing.assert_array_equal(batch[0].ids, expected[0])


class _Counted:
    """Images by the number, and how many were asked for."""

    def __init__(self, image, number):
        self.images = [np.roll(image, 5 * i, axis=1) for i in range(number)]
        self.taken = 0

    def each(self):
        for image in self.images:
            self.taken += 1
            yield image


def test_many_images_are_predicted_in_batches_in_their_order(model, image, monkeypatch):
    sizes, padded = [], map_predictor.MapPredictor._padded
    monkeypatch.setattr(map_predictor.MapPredictor, '_padded', lambda self, images, size: (
        sizes.append(len(images)), padded(self, images, size))[1])
    given = _Counted(image, 7)
    given.images[3] = given.images[3][:33]  # the same padded size
    given.images[5] = np.repeat(given.images[5], 2, axis=0)  # another
    expected = [prediction.predict(model.segmentor, one, (49, 49)) for one in given.images]
    found = model.predict(given.images, batch_size=4)
    assert sizes == [4, 2, 1] and isinstance(found, list)
    for one, ids, shown in zip(found, expected, given.images):
        np.testing.assert_array_equal(one.ids, ids)
        np.testing.assert_array_equal(one.image, shown)
    # A generator: no more than a batch is taken before its first answer.
    answers = model.predict(given.each(), batch_size=3)
    assert given.taken == 0
    for number, (one, ids) in enumerate(zip(answers, expected)):
        assert given.taken == min(7, 3 * (number // 3 + 1))
        np.testing.assert_array_equal(one.ids, ids)
    camera = _Counted(image, 3)
    for number, _ in enumerate(model.predict(camera.each(), batch_size=1)):
        assert camera.taken == number + 1


def test_what_comes_before_a_broken_image_is_answered(model, image):
    answers = model.predict(iter([image, image, 'no/such/file.png', image]))
    assert len([next(answers), next(answers)]) == 2
    with pytest.raises(UserError, match='no/such'):
        next(answers)

    def fails():
        yield image
        raise KeyError('mine')
    answers = model.predict(fails())
    next(answers)
    with pytest.raises(KeyError, match='mine'):
        next(answers)


def test_probabilities_of_many_are_those_of_each(model, image):
    found = model.predict([image, image[::-1]], probabilities=True)
    for one, shown in zip(found, (image, image[::-1])):
        np.testing.assert_array_equal(one.probabilities,
                                      model.predict(shown, probabilities=True).probabilities)


@pytest.mark.parametrize('number', [0, -1, 2.0, True, None])
def test_a_batch_that_is_none_is_one_line(model, image, number):
    with pytest.raises(UserError, match='must be a whole number'):
        model.predict([image], batch_size=number)


def test_grey_and_transparent_images(model, image):
    grey = image[..., 0]
    as_colours = model.predict(np.repeat(grey[..., None], 3, -1))
    np.testing.assert_array_equal(model.predict(grey).ids, as_colours.ids)
    np.testing.assert_array_equal(model.predict(Image.fromarray(grey)).ids, as_colours.ids)
    alpha = np.concatenate([image, image[..., :1]], -1)
    np.testing.assert_array_equal(model.predict(alpha).ids, model.predict(image).ids)


def test_what_a_prediction_can_show(model, image, tmp_path):
    found = model.predict(image)
    assert sum(found.shares.values()) == pytest.approx(1.0)
    first = next(iter(found.shares))
    assert found.mask(first).mean() == pytest.approx(found.shares[first])
    np.testing.assert_array_equal(np.array(found.coloured()), model.palette[found.ids])
    np.testing.assert_array_equal(np.array(found.overlay(0.0)), image)
    np.testing.assert_array_equal(np.array(found.overlay(1.0)), model.palette[found.ids])
    found.save(tmp_path / 'map.png')
    written = Image.open(tmp_path / 'map.png')
    assert written.mode == 'P'
    np.testing.assert_array_equal(np.array(written), found.ids)
    with pytest.raises(UserError, match='class'):
        found.mask('nothing')


def test_scores_are_those_of_the_tool(call, model, made_run, tmp_path, own_folder):
    import json
    call('evaluate', f'--checkpoint={made_run.path}', f'--output={tmp_path}/scores.json')
    expected = next(iter(json.loads((tmp_path / 'scores.json').read_text())['models'].values()))
    found = model.evaluate()
    assert found['miou'] == expected['miou'] and found['class_iou'] == expected['class_iou']
    assert 'boundary' in model.evaluate(own_folder, measures=('boundary',))


def test_an_imported_and_an_exported_model(call, deeplab_folder, tmp_path, image):
    segmentor, folder = deeplab_folder
    call('export', f'--checkpoint={folder}', f'--output={tmp_path}/out')
    expected = prediction.predict(segmentor, image, segmentor.crop_size)
    for path in (folder, tmp_path / 'out'):
        np.testing.assert_array_equal(tf_advseg.load(path).predict(image).ids, expected)


def test_which_chooses_among_a_runs_models(made_run, image):
    first, second = (tf_advseg.load(made_run.path, which=name) for name in ('best', 'control'))
    assert str(made_run.path) in repr(first) and '8 classes' in repr(first)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(first.segmentor.get_weights(),
                                                       second.segmentor.get_weights()))


def test_scores_are_of_the_weights_as_they_are(made_run):
    model = tf_advseg.load(made_run.path)
    before = model.evaluate()['pixel_accuracy']
    for variable in model.segmentor.trainable_variables:
        variable.assign(variable * 0.0)
    assert model.evaluate()['pixel_accuracy'] != before


def test_a_frame_that_is_written_over_stays_as_it_was(model, image):
    def frames():
        frame = image.copy()
        for shift in range(3):
            frame[:] = np.roll(image, shift * 7, axis=1)
            yield frame
    found = list(model.predict(frames()))
    np.testing.assert_array_equal(found[0].image, image)
    assert (found[0].image != found[2].image).any()


def test_images_of_many_bits_and_broken_ones_are_one_line(model, tmp_path, image):
    deep = Image.fromarray(image[..., 0].astype(np.int32) * 200)
    with pytest.raises(UserError, match='eight bits'):
        model.predict(deep)
    Image.fromarray(image).save(tmp_path / 'a.jpg')
    (tmp_path / 'a.jpg').write_bytes((tmp_path / 'a.jpg').read_bytes()[:-200])
    with pytest.raises(UserError, match='cannot be read'):
        model.predict(Image.open(tmp_path / 'a.jpg'))


@pytest.mark.parametrize('source, words', [
    (np.zeros((4, 5, 3), np.float32), 'multiply by 255'), (np.zeros((4, 5, 2), np.uint8), 'RGB'),
    (np.zeros((0, 5, 3), np.uint8), 'expected a path'), (None, 'expected a path'),
    ('no/such/file.png', 'no/such'), ('', 'is empty'), ([np.zeros((3,), np.uint8)], 'expected a path')])
def test_what_is_no_image_is_one_line(model, source, words):
    with pytest.raises(UserError, match=words):
        model.predict(source)


def test_no_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match='no such checkpoint'):
        tf_advseg.load(tmp_path / 'nothing')
    for path in (None, '', 3):
        with pytest.raises(UserError, match='expected the path'):
            tf_advseg.load(path)


def test_another_backend(deeplab_folder, image):
    plain = tf_advseg.load(deeplab_folder[1])
    fast = tf_advseg.load(deeplab_folder[1], backend='tflite')
    assert (plain.backend, fast.backend) == ('tensorflow', 'tflite')
    ours, theirs = (model.predict(image, probabilities=True) for model in (fast, plain))
    assert np.mean(ours.ids == theirs.ids) > 0.9998
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-3)
    with pytest.raises(UserError, match='Did you mean "tflite"'):
        tf_advseg.load(deeplab_folder[1], backend='tflight')
