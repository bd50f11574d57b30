"""tools/predict.py: maps and overlays of whatever can be read, the rest named."""
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import prediction
from tf_advseg.experiments import predicting


@pytest.fixture
def pictures(made_run, tmp_path):
    """Four good pictures, two broken: names that clash, a folder inside, a hidden file."""
    folder = tmp_path / 'in'
    (folder / 'more').mkdir(parents=True)
    image, _ = made_run.data.records.load(made_run.data.test[0])
    picture = Image.fromarray(image)
    picture.save(folder / 'a.png')
    picture.save(folder / 'a.jpg')
    picture.convert('L').save(folder / 'grey.png')
    picture.resize((61, 35)).save(folder / 'more' / 'wide.png')
    whole = (folder / 'a.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(whole[:-300])
    (folder / 'text.png').write_text('no picture')
    (folder / '.hidden.png').write_text('not looked at')
    (folder / 'notes.txt').write_text('not looked at')
    return folder


def test_a_folder_broken_pictures_are_named(call, made_run, pictures, tmp_path, capsys):
    output = tmp_path / 'out'
    assert call('predict', f'--checkpoint={made_run.path}', f'--input={pictures}',
                f'--output={output}') is None
    found = sorted(path.relative_to(output).as_posix() for path in output.rglob('*.png'))
    assert found == ['a_jpg.png', 'a_jpg_overlay.png', 'a_png.png', 'a_png_overlay.png',
                     'grey.png', 'grey_overlay.png', 'more/wide.png', 'more/wide_overlay.png']
    captured = capsys.readouterr()
    assert '4 predicted, 2 skipped' in captured.out
    skipped = [line for line in captured.err.splitlines() if line.startswith('skipped: ')]
    assert len(skipped) == 2 and 'cut.jpg: truncated' in skipped[0] and 'text.png' in skipped[1]


def test_a_map_holds_the_ids_and_the_classes_colours(call, made_run, pictures, tmp_path):
    call('predict', f'--checkpoint={made_run.path}', f'--input={pictures}/more/wide.png',
         f'--output={tmp_path}/deep/out')
    written = Image.open(tmp_path / 'deep' / 'out' / 'wide.png')
    image = np.array(Image.open(pictures / 'more' / 'wide.png'))
    ids = prediction.predict(made_run.segmentor, image, (49, 49))
    assert written.mode == 'P' and len(set(ids.flat)) > 1
    np.testing.assert_array_equal(np.array(written), ids)
    assert tuple(written.getpalette()[:3]) == made_run.data.spec.palette[0]
    assert Image.open(tmp_path / 'deep' / 'out' / 'wide_overlay.png').size == (61, 35)


def test_nothing_that_can_be_predicted_is_an_error(call, made_run, pictures, tmp_path):
    broken = tmp_path / 'broken'
    broken.mkdir()
    for name in ('cut.jpg', 'text.png'):
        shutil.copy(pictures / name, broken / name)
    with pytest.raises(UserError, match='nothing could be predicted, 2 of 2 pictures'):
        call('predict', f'--checkpoint={made_run.path}', f'--input={broken}',
             f'--output={tmp_path}/out')
    assert not (tmp_path / 'out').exists()


def test_mistakes_are_one_line(call, made_run, pictures, tmp_path):
    start = [f'--checkpoint={made_run.path}', f'--output={tmp_path}/out']
    (tmp_path / 'empty').mkdir()
    for words, text in (
            ([f'--checkpoint={made_run.path}'], 'no input was given'),
            ([*start, f'--input={tmp_path}/nowhere'], 'nowhere: no such folder'),
            ([*start, f'--input={tmp_path}/empty'], 'empty: no picture'),
            ([f'--input={pictures}', f'--output={tmp_path}/out'], 'no checkpoint was given'),
            ([f'--checkpoint={pictures}', f'--input={pictures}', f'--output={tmp_path}/out'],
             'neither a run directory'),
            ([*start, f'--input={pictures}', f'--output={pictures}'], 'where the pictures lie'),
            ([*start, f'--input={pictures}', f'--output={pictures}/notes.txt'], 'is a file')):
        with pytest.raises(UserError) as caught:
            call('predict', *words)
        assert text in str(caught.value) and '\n' not in str(caught.value)


def test_names_stay_apart(tmp_path):
    names = ('x.jpg', 'x_overlay.jpg', 'y.png', 'z/x.jpg')
    found = predicting.output_names(tmp_path, [tmp_path / name for name in names])
    files = [f'{name}{end}' for name in map(str, found) for end in ('', '_overlay')]
    assert len(set(files)) == len(files)
    assert str(found[2]) == 'y' and str(found[3]) == 'z/x'


def test_several_scales_and_mirrored(call, made_run, pictures, tmp_path):
    call('predict', f'--checkpoint={made_run.path}', f'--input={pictures}/a.png',
         f'--output={tmp_path}/out', '--eval_scales=0.5', '--eval_scales=1.5', '--flip')
    image = np.array(Image.open(pictures / 'a.png'))
    written = np.array(Image.open(tmp_path / 'out' / 'a.png'))
    np.testing.assert_array_equal(written, prediction.predict(
        made_run.segmentor, image, (49, 49), scales=(0.5, 1.5), flip=True))
    assert (written != prediction.predict(made_run.segmentor, image, (49, 49))).any()
    with pytest.raises(UserError, match='different numbers above 0'):
        call('predict', f'--checkpoint={made_run.path}', f'--input={pictures}/a.png',
             f'--output={tmp_path}/other', '--eval_scales=-1')
    assert not (tmp_path / 'other').exists()
