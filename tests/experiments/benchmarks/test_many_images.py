"""What each image costs by being there."""
import json

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import folder as folders
from tf_advseg.experiments.benchmarks import many_images
from tf_advseg.reporting import tables


def test_the_folder_made_up_is_read_with_its_splits_and_depends_on_nothing(tmp_path):
    for name in ('a', 'b'):
        many_images.write_folder(tmp_path / name, 20)
    reader = folders.FolderReader(tmp_path / 'a')
    assert {split: len(ids) for split, ids in reader.splits().items()} == {
        'train': 12, 'val': 4, 'test': 4}
    image, label = reader.load('000003')
    assert image.shape == (*many_images.SIZE, 3) and label.max() < many_images.CLASSES
    for path in sorted((tmp_path / 'a').rglob('*.*')):
        assert path.read_bytes() == (tmp_path / 'b' / path.relative_to(tmp_path / 'a')).read_bytes()


def test_the_table_has_what_grew_and_leaves_out_what_nobody_measured():
    nan = float('nan')
    found = {count: {'prepare_data': many_images.Cost(count / 100, 2.0, 300.0, count / 1000),
                     'train, to its first step': many_images.Cost(5.0, nan, nan, nan),
                     'evaluate': many_images.Cost(8.0, 9.0, 400.0, 0.0)} for count in (100, 1000)}
    text = tables.to_text(many_images.table(found))
    rows = [line.split('  ') for line in text.splitlines()]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ['prepare_data', 's', '1.0', '10.0', '10.00'] in rows
    assert [row for row in rows if row[0].startswith('train')] == [
        ['train, to its first step', 's', '5.0', '5.0', '1.00']]
    assert not [row for row in rows if row[0] == 'evaluate' and row[1].startswith('MB')]


def test_the_first_step_is_found_among_the_lines(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    lines = [{'event': 'evaluation', 'step': 1, 'time': 1.0},
             {'event': 'stage', 'step': 1, 'time': 2.0}, {'event': 'stage', 'step': 2, 'time': 3.0}]
    path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    assert many_images._first_step(tmp_path) == 2.0
    path.write_text(f'{json.dumps(lines[0])}\n')
    with pytest.raises(UserError, match='took no step'):
        many_images._first_step(tmp_path)


def test_what_cannot_be_measured_is_one_line(tmp_path):
    with pytest.raises(UserError, match='9 images make no data set'):
        many_images.measure(tmp_path, 9)
    with pytest.raises(UserError, match='evaluate ended with exit code 1; .*a.log'):
        many_images._cost('evaluate', [f'--checkpoint={tmp_path}/none'], tmp_path / 'a.log', None)
    assert 'error: ' in (tmp_path / 'a.log').read_text()


@pytest.mark.slow
def test_a_few_images_from_the_folder_to_the_scores(tmp_path):
    found = many_images.measure(tmp_path, 20)
    first, whole = found['train, to its first step'], found['train, one step']
    assert 0 < first.seconds < whole.seconds and list(tmp_path.iterdir()) == []
    assert all(cost.memory > 50 for name, cost in found.items() if 'first' not in name)
    assert found['prepare_data'].disk > 0
