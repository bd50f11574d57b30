"""Published weights into a model folder: what the words on the command line mean."""
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.convert import importing
from tf_advseg.models.zoo import parity

MODEL = 'mobilenetv2_dm05_coco_voc_trainaug'


def test_the_first_image_of_a_folder_is_compared(tmp_path, monkeypatch):
    for number, name in enumerate(('b.png', 'a.png')):
        Image.fromarray(parity.synthetic_image(20 + number, 30)).save(tmp_path / name)
    (tmp_path / 'a.txt').write_text('no image')
    seen = []

    def find_weights(path, flag):
        raise UserError(f'{path}: stopped, {flag}')

    read = importing.base.read_image
    monkeypatch.setattr(importing.base, 'read_image',
                        lambda path: seen.append(path) or read(path))
    monkeypatch.setattr(importing.networks, 'find_weights', find_weights)
    with pytest.raises(UserError, match='x.tflite: stopped, --source'):
        importing.import_checkpoint('x.tflite', tmp_path / 'out', MODEL, image=tmp_path)
    assert seen == [tmp_path / 'a.png']
    (tmp_path / 'none').mkdir()
    for name, message in (('none', 'no image .* in this folder'),
                          ('nowhere', 'nowhere: no such folder')):
        with pytest.raises(UserError, match=message):
            importing.import_checkpoint('x.tflite', tmp_path / 'out', MODEL,
                                        image=tmp_path / name)


def test_a_source_that_is_not_there_is_said_with_its_own_flag(tmp_path):
    with pytest.raises(UserError, match='--source=PATH') as caught:
        importing.import_checkpoint('nowhere.tflite', tmp_path / 'out', MODEL)
    assert '--checkpoint' not in str(caught.value)
