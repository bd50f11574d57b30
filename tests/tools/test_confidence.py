"""tools/confidence.py: Table 7 of a run with a discriminator, and of one without."""
import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import prediction
from tf_advseg.reporting.paper_figures import confidence_tables


@pytest.fixture(scope='module')
def judged_run(made_run, tmp_path_factory):
    """A copy of the made run whose last model has an untrained discriminator beside it."""
    from tf_advseg.adversaries import fully_convolutional
    from tf_advseg.methods.hung import discriminator_folders
    run = tmp_path_factory.mktemp('judged') / 'run'
    shutil.copytree(made_run.path, run)
    (run / 'checkpoints' / 'best').rename(run / 'checkpoints' / 'last')
    shutil.rmtree(run / 'lookahead')
    discriminator = fully_convolutional.build_fc_discriminator(num_classes=8, widths=(4,), seed=1)
    discriminator_folders.save(run / 'checkpoints' / 'last' / 'discriminator', discriminator,
                               discriminator_folders.describe(discriminator, 2))
    return run


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    return tmp_path_factory.mktemp('measured') / 'confidence'


def test_a_run_with_a_discriminator(call, made_run, judged_run, output, capsys):
    call('confidence', f'--checkpoint={judged_run}', '--thresholds=0,0.45,0.5,1', '--images=2',
         f'--output={output}')
    printed = capsys.readouterr().out
    found = json.loads((output / 'results.json').read_text())
    figures = found['figures']
    assert found['which'] == 'last' and found['map_stride'] == 2 and found['images'] == 5
    assert found['discriminator'] == str(judged_run / 'checkpoints' / 'last' / 'discriminator')
    assert figures['disc/share@0'] == 1 and figures['disc/share@1'] == 0
    assert 0 < figures['disc/auc'] < 1 and 0 < figures['softmax/auc'] < 1
    assert figures['softmax/accuracy@0'] == figures['disc/accuracy@0'] == figures['accuracy']
    rows = list(csv.reader((output / 'table.csv').open()))
    assert [row[0] for row in rows[1:]] == ['0', '0.45', '0.5', '1'] and rows[1][1] == '100.00'
    for text in ('softmax at this share', 'AUC: discriminator', confidence_tables.NOTE,
                 f'written: {output}'):
        assert text in printed
    names = ['confidence.png', 'coverage.png', 'report.html', 'results.json', 'table.csv']
    assert sorted(path.name for path in output.iterdir()) == names
    assert min(Image.open(output / 'confidence.png').size) > 100
    page = (output / 'report.html').read_text(encoding='utf-8')
    assert 'Accuracy by share' in page and 'Confidence maps' in page
    # Every second pixel of these images, whose padded sides are 2 k + 1.
    points = sum((made_run.data.records.load(i)[1][::2, ::2] != 255).sum()
                 for i in made_run.data.test)
    assert figures['points'] == points


def test_another_runs_discriminator_judges_any_model_and_own_output_is_replaced(
        call, made_run, judged_run, output):
    call('confidence', f'--checkpoint={made_run.path}/checkpoints/control', '--split=holdout',
         f'--discriminator={judged_run}', '--images=0', f'--output={output}')
    found = json.loads((output / 'results.json').read_text())
    assert found['split'] == 'holdout' and found['images'] == 3 and found['which'] == 'control'
    assert found['discriminator'].startswith(str(judged_run)) and found['map_stride'] == 2
    assert np.isfinite(found['figures']['disc/auc'])
    assert found['thresholds'] == [0, 0.1, 0.2, 0.3] and not (output / 'confidence.png').exists()


def test_a_checkpoint_without_one_has_the_softmax_alone(call, made_run, tmp_path, capsys):
    call('confidence', f'--checkpoint={made_run.path}', f'--output={tmp_path}/out')
    printed = capsys.readouterr().out
    assert confidence_tables.SOFTMAX_NOTE in printed
    found = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert found['discriminator'] is None and found['thresholds'] == [0, 0.5, 0.9, 0.99]
    assert not any(key.startswith('disc/') for key in found['figures'])
    assert found['map_stride'] == 1
    right = total = 0
    for image_id in made_run.data.test:
        image, label = made_run.data.records.load(image_id)
        known = label != 255
        right += (prediction.predict(made_run.segmentor, image, (49, 49)) == label)[known].sum()
        total += known.sum()
    assert found['figures']['accuracy'] == pytest.approx(right / total, abs=1e-3)


MISTAKES = {
    ('--split=tets',): 'unknown split "tets". Did you mean "test"?',
    ('--thresholds=0,2',): '--thresholds=0,2: expected numbers from 0 to 1',
    ('--thresholds=much',): 'expected numbers from 0 to 1',
    ('--discriminator=nowhere',): 'nowhere: no such file or folder; give --discriminator=RUN',
    ('--discriminator=RUN',): 'holds no discriminator in checkpoints/last or /best',
    ('--which=averaged',): 'has no checkpoint "averaged"; there is best, control, stage1',
    ('--output=',): 'no folder for a measured confidence was given: add --output=DIR',
    ('--output=RUN',): 'lies there and would be lost',
    ('--output=OWN',): 'which was not written as a measured confidence by this tool',
    ('--checkpoint=',): 'no checkpoint was given: add --checkpoint=RUN_DIRECTORY',
    ('--checkpoint=nowhere',): 'nowhere: no such checkpoint',
    ('--data_dir=nowhere',): 'nowhere: no such file or folder',
}


@pytest.mark.parametrize('words', MISTAKES)
def test_mistakes_are_one_line(call, made_run, own_folder, tmp_path, words):
    given = [word.replace('OWN', str(own_folder)).replace('RUN', str(made_run.path))
             for word in words]
    with pytest.raises(UserError) as caught:
        call('confidence', f'--checkpoint={made_run.path}', f'--output={tmp_path}/out', *given)
    assert MISTAKES[words] in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'out').exists()


def test_data_of_other_classes_are_refused(call, made_run, own_folder, tmp_path):
    other = shutil.copytree(own_folder, tmp_path / 'other')
    (other / 'classes.txt').write_text('\n'.join(f'c{i}' for i in range(11)))
    with pytest.raises(UserError, match=f'{other}: has 11 classes, {made_run.path} was trained '
                                        'on 8'):
        call('confidence', f'--checkpoint={made_run.path}', f'--data_dir={other}',
             '--dataset=folder', f'--output={tmp_path}/out')
