"""tools/evaluate.py: the right numbers of the right model on the right pictures."""
import csv
import json
import shutil

import numpy as np
import pytest
from absl import flags

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import metrics, prediction
from tf_advseg.experiments import evaluating


def by_hand(made_run, ids, **passes):
    """The confusion matrix from one prediction after the other."""
    counts = np.zeros((8, 8), np.int64)
    for image_id in ids:
        image, label = made_run.data.records.load(image_id)
        found = prediction.predict(made_run.segmentor, image, (49, 49), **passes)
        known = label != 255
        np.add.at(counts, (label[known], found[known]), 1)
    return counts


@pytest.fixture(scope='module')
def scores(made_run, tmp_path_factory):
    """The JSON of the run's test split, and where it lies."""
    return tmp_path_factory.mktemp('scores') / 'scores.json'


def test_a_run_is_evaluated_on_its_own_test_split_beside_another(call, made_run, scores, capsys):
    call('evaluate', f'--checkpoint={made_run.path}', f'--output={scores}',
         f'--compare={made_run.path}/checkpoints/stage1')
    results = json.loads(scores.read_text())
    counts = by_hand(made_run, made_run.data.test)
    assert results['models']['run']['confusion_matrix'] == counts.tolist()
    assert results['models']['stage1']['confusion_matrix'] != counts.tolist()
    assert results['split'] == 'test' and results['pictures'] == 5
    assert evaluating.table(results).header == ('class', 'run', 'stage1', 'vs stage1')
    out = capsys.readouterr().out
    for text in ('sky', 'pole', 'mIoU', 'pixel accuracy', f'{100 * metrics.mean_iou(counts):.2f}'):
        assert text in out


def test_two_replicas_give_the_same_and_csv_is_written(call, made_run, scores, tmp_path):
    output = tmp_path / 'scores.csv'
    call('evaluate', f'--checkpoint={made_run.path}', '--strategy=mirrored', f'--output={output}')
    rows = list(csv.reader(output.open()))
    expected = json.loads(scores.read_text())['models']['run']
    assert rows[0] == ['class', 'run'] and rows[1][0] == 'sky'
    values = {row[0]: row[1] for row in rows}
    assert values['mIoU'] == f'{100 * expected["miou"]:.2f}'
    assert values['sky'] == f'{100 * expected["class_iou"]["sky"]:.2f}'


def test_which_model_and_which_pictures(made_run, own_folder):
    segmentor, _, content = evaluating.load(made_run.path, 'start')
    assert content['label'] == 'g0' and segmentor.num_classes == 8
    assert evaluating.load(made_run.path)[2]['label'] == 'g2'
    assert evaluating.run_of(made_run.path / 'checkpoints' / 'control') == made_run.path
    with evaluating.open_records(None, None, made_run.path) as records:
        chosen = evaluating.choose_pictures(records, 'holdout', made_run.path)
        assert chosen.ids == made_run.data.holdout
        assert evaluating.choose_pictures(records, 'train').ids == made_run.data.train
    with evaluating.open_records(own_folder, 'folder', made_run.path) as records:
        scratch = records.folder
        assert len(records) == 6 and records.spec.class_names[0] == 'sky'
    assert not scratch.exists()


MISTAKES = {
    ('--split=tets',): 'unknown split "tets". Did you mean "test"?',
    ('--output=scores.txt',): 'scores.txt: cannot tell the format; expected a name that ends in '
                              '.json or .csv',
    ('--output=nowhere/scores.csv',): 'there is no folder nowhere',
    ('--compare=nowhere',): 'nowhere: no such checkpoint',
    ('--data_dir=nowhere',): 'nowhere: no such file or folder',
    ('--which=averaged',): 'has no checkpoint "averaged"; there is best, control, stage1',
    ('--strategy=multi_worker',): 'one process evaluates; use one_device or mirrored',
    ('--data_dir=OWN', '--dataset=folde'): 'unknown data set reader "folde". Did you mean',
}


@pytest.mark.parametrize('words', MISTAKES)
def test_mistakes_are_one_line(call, made_run, own_folder, words):
    words = [word.replace('OWN', str(own_folder)) for word in words]
    with pytest.raises(UserError) as caught:
        call('evaluate', f'--checkpoint={made_run.path}', *words)
    key = tuple(word.replace(str(own_folder), 'OWN') for word in words)
    assert MISTAKES[key] in str(caught.value) and '\n' not in str(caught.value)


def test_foreign_checkpoints_are_refused(call, made_run, own_folder, tmp_path):
    with pytest.raises(UserError, match='no checkpoint was given'):
        call('evaluate')
    with pytest.raises(UserError, match='neither a run directory nor a model folder'):
        call('evaluate', f'--checkpoint={own_folder}')
    folder = shutil.copytree(made_run.path / 'checkpoints' / 'best', tmp_path / 'model')
    with pytest.raises(UserError, match='does not lie in a run directory; add --data_dir'):
        call('evaluate', f'--checkpoint={folder}')
    shard = next((folder / 'weights').glob('state.data*'))
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(UserError, match='state.data.* bytes'):
        call('evaluate', f'--checkpoint={folder}')


def test_data_of_other_classes_are_refused(call, made_run, own_folder, tmp_path):
    other = shutil.copytree(own_folder, tmp_path / 'other')
    (other / 'classes.txt').write_text('\n'.join(f'c{i}' for i in range(11)))
    with pytest.raises(UserError, match=f'{other}: has 11 classes, .* was trained on 8'):
        call('evaluate', f'--checkpoint={made_run.path}', f'--data_dir={other}',
             '--dataset=folder')


def test_a_flag_of_another_value_is_refused_when_parsed(call, made_run):
    with pytest.raises(flags.Error, match='mirrored'):
        call('evaluate', f'--checkpoint={made_run.path}', '--strategy=mirored')


def test_several_scales_and_mirrored(call, made_run, tmp_path, capsys):
    output = tmp_path / 'scores.json'
    call('evaluate', f'--checkpoint={made_run.path}', f'--output={output}', '--eval_scales=0.5',
         '--eval_scales=1', '--flip')
    assert 'scales 0.5, 1 and mirrored' in capsys.readouterr().out
    results = json.loads(output.read_text())
    assert results['scales'] == [0.5, 1.0] and results['flip'] is True
    counts = by_hand(made_run, made_run.data.test, scales=(0.5, 1.0), flip=True)
    assert results['models']['run']['confusion_matrix'] == counts.tolist()
    assert counts.tolist() != by_hand(made_run, made_run.data.test).tolist()
    with pytest.raises(UserError, match='different numbers above 0'):
        call('evaluate', f'--checkpoint={made_run.path}', '--eval_scales=0')
