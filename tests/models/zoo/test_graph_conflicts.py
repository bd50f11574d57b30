"""A graph that does otherwise than the network: its weights are not taken; published files."""
import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, zoo
from tf_advseg.models.zoo import assignment, parity, tflite

FILES = ('deeplabv3_mnv2_ade20k_uint8.tflite', 'deeplabv3_mnv2_ade20k_int8.tflite')


def test_a_conflict_assigns_nothing_and_one_of_the_head_leaves_the_backbone(
        official_files, small, unchanged):
    model = official_files.mobilenet(seed=1)
    head, all_ = [assignment.Found('test', small.values, conflicts=((text, text == 'head'),))
                  for text in ('head', 'all')]
    for found, options in ((head, {}), (all_, {}), (all_, {'backbone_only': True})):
        with unchanged(model), pytest.raises(UserError, match='file: .*: its weights would give'):
            assignment.assign('file', model, found, **options)
    assert assignment.assign('file', model, head, backbone_only=True).assigned


@pytest.mark.parametrize('name', FILES)
def test_published_files_that_enlarge_otherwise(shared, name):
    path = shared / 'zoo' / name
    if not path.is_file():
        pytest.skip(f'the published weights are not here: {path}')
    model = deeplab.deeplab_mobilenet_v2(32, decoder=True)
    with pytest.raises(UserError, match='align_corners=False.*--backbone_only'):
        zoo.read(path, model)
    report = zoo.read(path, model, backbone_only=True)
    assert len(report.assigned) == 5 * 51
    found = [text for text, head in tflite.read(path, model).conflicts if head]
    assert len(found) == 2 and 'decoder/ResizeBilinear' in found[0]


def test_the_made_up_image_shows_what_enlarging_otherwise_costs(shared, monkeypatch):
    path = shared / 'zoo' / FILES[0]
    if not path.is_file():
        pytest.skip(f'the published weights are not here: {path}')
    monkeypatch.setattr(tflite, '_conflicts', lambda *_: ())

    def build(stride, size):
        model = deeplab.deeplab_mobilenet_v2(32, stride, crop_size=size, decoder=True)
        zoo.read(path, model)
        return model

    found = parity.compare(path, build)
    assert not found.good and found.agreement < 0.95


def test_the_made_up_image_fits_any_size():
    for size in ((513, 257), (2, 3), (1, 1)):
        image = parity.hard_image(*size)
        assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert parity.hard_image(65, 65).std() > 20
    np.testing.assert_array_equal(parity.hard_image(9, 9), parity.hard_image(9, 9))
