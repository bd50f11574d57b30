"""Files for the evaluation servers: names, folders, ids; Cityscapes' read by its own script."""
import io

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.data import official_specs
from tf_advseg.data import spec as specs
from tf_advseg.evaluation import submission

SPECS = official_specs.SPECS
NAMES = {'pascal_voc_2012': ('2008_000123',
                             'results/VOC2012/Segmentation/comp6_test_cls/2008_000123.png'),
         'cityscapes': ('berlin_000000_000019_leftImg8bit',
                        'berlin_000000_000019_pred_labelIds.png'),
         'ade20k': ('ADE_test_00000001', 'ADE_test_00000001.png')}


@pytest.mark.parametrize('server', submission.SERVERS)
def test_every_class_is_coded_as_the_server_codes_it(server, tmp_path):
    spec = SPECS[server]
    made = submission.Submission(server, spec)
    assert made.translation is None and str(made.path(NAMES[server][0])) == NAMES[server][1]
    ids = np.arange(spec.num_classes, dtype=np.uint8).reshape(1, -1)
    path = made.write(tmp_path, NAMES[server][0], ids)
    assert path == tmp_path / NAMES[server][1]
    image = Image.open(path)
    assert image.format == 'PNG' and image.mode == ('P' if 'voc' in server else 'L')
    np.testing.assert_array_equal(np.array(image), spec.to_official(ids))
    np.testing.assert_array_equal(spec.from_official(np.array(image)), ids)


def test_voc_maps_have_the_official_colours():
    made = submission.Submission('pascal_voc_2012', SPECS['pascal_voc_2012'])
    image = Image.open(io.BytesIO(made.encode(np.array([[0, 1, 15]], np.uint8))))
    np.testing.assert_array_equal(
        np.array(image.convert('RGB')), [[(0, 0, 0), (128, 0, 0), (192, 128, 128)]])


def test_ade20k_wants_1_to_150_whatever_the_network_has():
    made = submission.Submission('ade20k', SPECS['ade20k'])
    image = Image.open(io.BytesIO(made.encode(np.uint8([[0, 149]]))))
    assert np.array(image).tolist() == [[1, 150]]
    old = submission.Submission('ade20k', SPECS['ade20k_151'])
    assert old.translation.tolist() == [-1, *range(150)] and old.spec == made.spec


def test_cityscapes_script_finds_and_counts_the_files(tmp_path, monkeypatch, official_script_runs):
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
    truth = np.random.default_rng(0).integers(0, 19, (12, 20)).astype(np.uint8)
    spec = SPECS['cityscapes']
    label = tmp_path / 'frankfurt_000000_000294_gtFine_labelIds.png'
    Image.fromarray(spec.to_official(truth)).save(label)
    predicted = tmp_path / 'results'
    wrong = truth.copy()
    wrong[0] = (wrong[0] + 1) % 19
    made = submission.Submission('cityscapes', spec)
    path = made.write(predicted, 'frankfurt_000000_000294_leftImg8bit', wrong)
    monkeypatch.setattr(official.args, 'predictionPath', str(predicted))
    monkeypatch.setattr(official.args, 'predictionWalk', None)
    assert official.getPrediction(official.args, str(label)) == str(path)
    monkeypatch.setattr(official.args, 'evalInstLevelScore', False)
    matrix = official.generateMatrix(official.args)
    official.evaluatePair(str(path), str(label), matrix, {}, {}, official.args)
    matrix = np.array(matrix)[np.ix_(spec.official_ids, spec.official_ids)]
    assert matrix.sum() == 240 and np.trace(matrix) == 220


@pytest.mark.parametrize('server, stem', [
    ('pascal_voc_2012', 'bird'), ('cityscapes', 'berlin_leftImg8bit'), ('ade20k', 'x'),
    ('cityscapes', '../berlin_000000_000019')])
def test_names_that_no_server_knows(server, stem):
    with pytest.raises(UserError, match='not the name of an image of'):
        submission.Submission(server, SPECS[server]).path(stem)
    with pytest.raises(UserError, match=f'^in/image.png: not the name .* of {server}; expected'):
        submission.Submission(server, SPECS[server]).path(stem, 'in/image.png')


def test_other_networks_and_servers_are_refused():
    with pytest.raises(UserError, match='Did you mean "cityscapes"'):
        submission.Submission('cityscape', SPECS['cityscapes'])
    own = specs.DatasetSpec('own', [f'c{i}' for i in range(21)], specs.default_palette(21))
    with pytest.raises(UserError, match='trained on own .21 classes., the server expects the 21'):
        submission.Submission('pascal_voc_2012', own)
    with pytest.raises(ValueError, match='class id 21'):
        submission.Submission('pascal_voc_2012', SPECS['pascal_voc_2012']).encode(
            np.uint8([[21]]))
