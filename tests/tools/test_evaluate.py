"""tools/evaluate.py: the right numbers of the right model on the right images."""
import csv
import dataclasses
import json
import re
import shutil
import types

import numpy as np
import pytest
from absl import flags
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.data.official_specs import SPECS
from tf_advseg.data.readers import base
from tf_advseg.data.records.record_set import RecordSet, write_records
from tf_advseg.evaluation import image_counts
from tf_advseg.evaluation import map_predictor
from tf_advseg.evaluation import metrics, prediction
from tf_advseg.experiments.score import evaluating
from tf_advseg.experiments.score import evaluation_data
from tf_advseg.reporting import comparison


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
    assert results['split'] == 'test' and results['images'] == 5
    assert evaluating.table(results).header == ('class', 'run', 'stage1')
    beside = scores.with_suffix('.csv')
    evaluating.write(beside, results, {}, None)
    rows = list(csv.reader(beside.open(encoding='utf-8')))
    assert rows[0][3:5] == ['run minus stage1: images', 'run minus stage1: difference']
    assert dict((row[0], row[3]) for row in rows)['mIoU'] == '5'
    out = capsys.readouterr().out
    for text in ('sky', 'pole', 'mIoU', 'pixel accuracy', f'{100 * metrics.mean_iou(counts):.2f}'):
        assert text in out


def test_damaged_images_are_left_out_by_flag_and_told(call, made_run, tmp_path, capsys):
    run = tmp_path / 'run'
    shutil.copytree(made_run.path, run)
    gone, split = made_run.data.test[1], made_run.data.holdout
    records = made_run.data.records
    shard, number = records._places[records.positions([gone])[0]]
    path = run / 'records' / (records.manifest['shards'][shard] + '.tfrecord')
    content = bytearray(path.read_bytes())
    content[records._indices[shard][number][0]] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'"{gone}"; .*--damaged=skip .evaluate. goes on without'):
        call('evaluate', f'--checkpoint={run}')
    call('evaluate', f'--checkpoint={run}', '--damaged=skip', f'--output={tmp_path}/scores')
    assert '(4 images, 1 damaged left out)' in capsys.readouterr().out
    results = json.loads((tmp_path / 'scores' / 'scores.json').read_text())
    assert results['left_out'] == [gone] and results['images'] == 4
    assert results['models']['run']['confusion_matrix'] == by_hand(
        made_run, [i for i in made_run.data.test if i != gone]).tolist()
    page = (tmp_path / 'scores' / 'report.html').read_text()
    assert f'left out: {gone}.' in page
    with evaluation_data.open_records(None, None, run, 'skip') as found:  # of another split
        chosen = evaluation_data.choose_images(found, 'holdout', run)
        assert (chosen.ids, chosen.left_out) == (split, ())


def test_two_replicas_give_the_same_and_csv_is_written(call, made_run, scores, tmp_path):
    output = tmp_path / 'scores.csv'
    call('evaluate', f'--checkpoint={made_run.path}', '--strategy=mirrored', f'--output={output}')
    rows = list(csv.reader(output.open()))
    expected = json.loads(scores.read_text())['models']['run']
    assert rows[0] == ['class', 'run'] and rows[1][0] == 'sky'
    values = {row[0]: row[1] for row in rows}
    assert values['mIoU'] == f'{100 * expected["miou"]:.2f}'
    assert values['sky'] == f'{100 * expected["class_iou"]["sky"]:.2f}'


def test_which_model_and_which_images(made_run, own_folder):
    segmentor, _, content = evaluating.load(made_run.path, 'start')
    assert content['label'] == 'g0' and segmentor.num_classes == 8
    assert evaluating.load(made_run.path)[2]['label'] == 'g2'
    assert evaluating.run_of(made_run.path / 'checkpoints' / 'control') == made_run.path
    with evaluation_data.open_records(None, None, made_run.path) as records:
        chosen = evaluation_data.choose_images(records, 'holdout', made_run.path)
        assert chosen.ids == made_run.data.holdout
        assert evaluation_data.choose_images(records, 'train').ids == made_run.data.train
    with evaluation_data.open_records(own_folder, 'folder', made_run.path) as records:
        scratch = records.folder
        assert len(records) == 6 and records.spec.class_names[0] == 'sky'
    assert not scratch.exists()


MISTAKES = {
    ('--split=tets',): 'unknown split "tets". Did you mean "test"?',
    ('--output=scores.txt',): 'scores.txt: unknown format; expected a name that ends in '
                              '.json or .csv',
    ('--output=nowhere/scores.csv',): 'there is no folder nowhere',
    ('--compare=nowhere',): 'nowhere: no such checkpoint',
    ('--data_dir=nowhere',): 'nowhere: no such file or folder',
    ('--which=averaged',): 'has no checkpoint "averaged"; there is best, control, stage1',
    ('--strategy=multi_worker',): 'one process evaluates; use one_device or mirrored',
    ('--strategy=tpu',): '--strategy=tpu: one process evaluates; use one_device or mirrored',
    ('--compare=',): '--compare= names nothing; give a run directory',
    ('--window=0x5',): '--window=0x5: must be a side in pixels',
    ('--measures=boundary,trimpa',): 'unknown measure "trimpa". Did you mean "trimap"?',
    ('--measures=instances',): 'instances',
    ('--output=OWN',): 'which was not written as an evaluation by this tool',
    ('stray',): 'unexpected argument "stray"; a flag is written --name=value',
    ('--data_dir=OWN', '--dataset=folde'): 'unknown data set reader "folde". Did you mean',
    ('--dataset=shaps',): 'unknown data set reader "shaps". Did you mean "shapes"?',
    ('--dataset=ade20k',): 'made by the reader "shapes", not of "ade20k"; leave --dataset out',
    ('--compare=RUN/checkpoints/best',): 'checkpoints/best: is the same model as RUN (best), and',
}


def test_a_dot_in_a_new_folders_name_is_no_suffix(tmp_path):
    for name in ('results_v1.2', 'results', 'scores.'):
        assert evaluating.require_output(tmp_path / name) == tmp_path / name
    for name in ('results_v1.json', 'v1.2.csv'):
        assert evaluating.require_output(tmp_path / name) == tmp_path / name
    for name in ('scores.png', 'scores.mp4'):
        with pytest.raises(UserError, match='unknown format'):
            evaluating.require_output(tmp_path / name)


@pytest.mark.parametrize('words', MISTAKES)
def test_mistakes_are_one_line(call, made_run, own_folder, words):
    given = [word.replace('OWN', str(own_folder)).replace('RUN', str(made_run.path))
             for word in words]
    with pytest.raises(UserError) as caught:
        call('evaluate', f'--checkpoint={made_run.path}', *given)
    expected = MISTAKES[words].replace('RUN', str(made_run.path))
    assert expected in str(caught.value) and '\n' not in str(caught.value)


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
    with pytest.raises(UserError, match=f'{other}: has 11 classes, {made_run.path} was trained '
                                        'on 8'):
        call('evaluate', f'--checkpoint={made_run.path}', f'--data_dir={other}',
             '--dataset=folder')


def test_a_model_that_does_not_fit_is_named_before_any_works(made_run, monkeypatch):
    load = evaluating.load

    def foreign(path, which=None, maps=False):
        segmentor, spec, content = load(path, which, maps)
        if 'stage1' in str(path):
            spec = specs.DatasetSpec('foreign', ('a', 'b'), ((0, 0, 0), (1, 1, 1)))
        return segmentor, spec, content

    monkeypatch.setattr(evaluating, 'load', foreign)
    monkeypatch.setattr(evaluating, 'score', lambda *_: pytest.fail('worked before it refused'))
    with pytest.raises(UserError, match='has 8 classes, .*checkpoints/stage1 was trained on 2'):
        evaluating.evaluate(made_run.path, [made_run.path / 'checkpoints' / 'stage1'], show=False)


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


@pytest.fixture(scope='module')
def folder(made_run, tmp_path_factory):
    """Function of the tool: evaluates the run and two others into a folder; its Path."""
    output = tmp_path_factory.mktemp('evaluated') / 'new' / 'scores'

    def make(call, *words):
        others = [made_run.path / 'checkpoints' / name for name in ('control', 'stage1')]
        call('evaluate', f'--compare={made_run.path}', f'--compare={others[0]}', *words,
             f'--output={output}', '--measures=boundary,components', str(others[1]))
        return output
    return make


def test_a_folder_has_scores_counts_matrix_panels_and_a_page(call, made_run, folder, scores,
                                                             capsys):
    output = folder(call)
    out = capsys.readouterr().out
    names = ['best.png', 'classes.csv', 'comparison_control.csv', 'comparison_stage1.csv',
             'confusion.png', 'differences_control.png',
             'differences_stage1.png', 'report.html', 'scores.json', 'worst.png']
    assert sorted(path.name for path in output.iterdir()) == names
    found = json.loads((output / 'scores.json').read_text())
    assert list(found['models']) == ['run', 'control', 'stage1']
    # What the bootstrap gives is the difference of the table, and it says what it is not.
    for other, compared in found['comparisons'].items():
        gain = found['models']['run']['miou'] - found['models'][other]['miou']
        assert compared['miou']['delta'] == pytest.approx(gain) and compared['images'] == 5
        assert compared['miou']['low'] is None  # five images are too few
        assert (compared['of'], compared['minus']) == ('run', other)
    for text in ('IoU of run minus stage1', '95 % intervals', comparison.NOTE,
                 'boundary F (Csurka)', 'connected components'):
        assert text in out
    for name in names:
        if name.endswith('.png'):
            assert min(Image.open(output / name).size) > 100
    differences = (output / 'comparison_stage1.csv').read_text(encoding='utf-8').splitlines()
    assert differences[0] == 'class,images,difference,from,to,not 0'
    assert differences[-1].startswith('mIoU,5,')
    counts = image_counts.ImageCounts.from_json(found['counts']['run'])
    np.testing.assert_array_equal(counts.matrix, by_hand(made_run, made_run.data.test))
    assert list(counts.ids) == made_run.data.test
    page = (output / 'report.html').read_text(encoding='utf-8')
    assert 'Where run and control differ most' in page and 'padding: crop' in page


def test_a_folder_of_ones_own_is_replaced_and_no_other(call, made_run, folder):
    output = folder(call, '--padding=none')
    assert json.loads((output / 'scores.json').read_text())['padding'] == 'none'
    (output / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match='holds notes.txt'):
        folder(call)
    assert (output / 'notes.txt').read_text() == 'mine'


def test_windows_slide_over_the_images(call, made_run, tmp_path, capsys):
    output = tmp_path / 'scores.json'
    call('evaluate', f'--checkpoint={made_run.path}', f'--output={output}', '--window=33x49')
    assert 'windows 33x49' in capsys.readouterr().out
    results = json.loads(output.read_text())
    predictor = map_predictor.MapPredictor(made_run.segmentor, (49, 49), window=(33, 49))
    counts = np.zeros((8, 8), np.int64)
    for image_id in made_run.data.test:
        image, label = made_run.data.records.load(image_id)
        counts += image_counts.count_image(label, predictor([image])[0][0], 8)[:, :8]
    assert results['window'] == {'run': [33, 49]}
    assert results['models']['run']['confusion_matrix'] == counts.tolist()


def test_a_network_of_another_numbering_of_the_data_set(made_run):
    """One of its classes has no counterpart: its pixels are wrong, not left out."""
    expected = by_hand(made_run, made_run.data.test)
    lost = int(expected.sum(axis=0).argmax())
    ours = made_run.data.spec
    names = [f'other {name}' if i == lost else name for i, name in enumerate(ours.class_names)]
    network = dataclasses.replace(ours, class_names=names, official_ids=[
        99 if i == lost else i for i in range(8)])
    content = {'model': {'arguments': {'crop_size': [49, 49]}}}
    with evaluation_data.open_records(None, None, made_run.path) as records:
        images = evaluation_data.choose_images(records, 'test', made_run.path)
        found = evaluating.score(evaluating.make_predictor(
            (made_run.segmentor, network, content), images), images, show=False)
        foreign = specs.DatasetSpec('foreign', ('a', 'b'), ((0, 0, 0), (1, 1, 1)))
        with pytest.raises(UserError, match='has 8 classes, one was trained on 2'):
            evaluating.make_predictor((made_run.segmentor, foreign, content), images,
                                      checkpoint='one')
    np.testing.assert_array_equal(found.counts.matrix[:, 8], expected[:, lost])
    expected[:, lost] = 0
    np.testing.assert_array_equal(found.counts.matrix[:, :8], expected)


class _Streets(base.Reader):
    """Three made-up frames of Cityscapes: road, two cars of different size, a person."""
    spec = SPECS['cityscapes']
    description = {'reader': 'streets', 'options': {}}

    def splits(self):
        return {'test': ['a', 'b', 'c']}

    def load(self, image_id):
        label = np.zeros((24, 32), np.uint8)
        label[2:14, 2:18], label[16:19, 20:24], label[4:12, 24:28] = 13, 13, 11
        label[:, 30:] = 255
        return np.full((24, 32, 3), ord(image_id), np.uint8), label

    def instances(self, image_id):
        label = self.load(image_id)[1]
        ids = self.spec.to_official(label).astype(np.int32)
        ids[label == 13] = 26001
        ids[16:19, 20:24], ids[4:12, 24:28] = 26002, 24001
        return ids


class _BlindToTheSmall:
    """A predictor that takes the smaller car for road, and is else right."""

    def over(self, records, ids):
        for image_id in ids:
            label = records.load(image_id)[1]
            found = np.where(label == 255, 0, label)
            found[16:19, 20:24] = 0
            yield types.SimpleNamespace(image_id=image_id, label=label, ids=found)


def test_cityscapes_scores_are_told_by_class_and_category(tmp_path):
    """Zhu et al., Tables 1 and 2: what --measures=instances prints, from records on."""
    records = RecordSet(write_records(_Streets(), None, tmp_path / 'records', progress=False))
    images = evaluation_data.Images(records, 'test', list(records.ids))
    summary = evaluating.score(_BlindToTheSmall(), images, ['instances'], show=False).summary
    text = evaluating.text({
        'dataset': 'cityscapes', 'split': 'test', 'images': 3, 'left_out': [], 'scales': [1.0],
        'flip': False, 'window': None, 'padding': 'crop', 'models': {'run': summary}})
    rows = dict(re.findall(r'^ *(\S.*?)  +(\S+) *$', text, re.MULTILINE))
    large, small, person, road = 12 * 16, 3 * 4, 8 * 4, 24 * 30 - 12 * 16 - 3 * 4 - 8 * 4
    classes = road / (road + small), large / (large + small), 1.0
    assert float(rows['IoU, classes']) == pytest.approx(100 * np.mean(classes), abs=0.006)
    # flat, human and vehicle; by objects, the small car weighs as much as the large one.
    assert float(rows['IoU, categories']) == pytest.approx(100 * np.mean(classes), abs=0.006)
    assert float(rows['iIoU, classes']) == pytest.approx(75.0)
    assert float(rows['iIoU, categories']) == pytest.approx(75.0)
    accuracy = np.mean([1.0, large / (large + small), 1.0])
    assert float(rows['mean class accuracy']) == pytest.approx(100 * accuracy, abs=0.006)
    right = (road + large + person) / (24 * 30)
    assert float(rows['pixel accuracy']) == pytest.approx(100 * right, abs=0.006)


def test_another_backend_scores_alike_and_is_named(call, deeplab_folder, made_run, tmp_path):
    results = {}
    for backend in ('tensorflow', 'tflite'):
        path = tmp_path / f'{backend}.json'
        call('evaluate', f'--checkpoint={deeplab_folder[1]}', f'--backend={backend}',
             f'--data_dir={made_run.path / "records"}', f'--output={path}')
        results[backend] = json.loads(path.read_text())
    assert results['tflite']['backend'] == 'tflite'
    assert 'backend' not in results['tensorflow']
    first, second = (np.array(one['models']['model']['confusion_matrix'], np.int64)
                     for one in results.values())
    assert np.abs(first - second).sum() <= 0.001 * first.sum()
    with pytest.raises(UserError, match='leave out --strategy'):
        call('evaluate', f'--checkpoint={deeplab_folder[1]}', '--backend=tflite',
             '--strategy=mirrored', f'--data_dir={made_run.path / "records"}')
