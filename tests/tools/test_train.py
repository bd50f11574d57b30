"""tools/train.py in folders of any name: to TensorFlow some of these names are patterns."""
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

SIDE = 49
SCENES = {'num_train': 8, 'num_val': 4, 'num_test': 3, 'size': (SIDE, SIDE), 'smallest': (40, 40)}
SETTINGS = (f'dataset.options={SCENES!r}', f'experiment.crop_size={SIDE}', 'input_encoding.size=32',
            'deeplab_mobilenet_v2.depth_multiplier=0.25', 'stage_one.epochs=1',
            'stage_one.evaluate_every_epochs=0', 'controller.patience=1')


@pytest.fixture
def train(call):
    """Function (run directory, records, words...) -> LoAd on few scenes, by the tool."""
    def run(workdir, records, *words):
        call('train', '--gin_file=gin/demo_smallest.gin', f'--workdir={workdir}',
             f'--data_dir={records}', '--seed=3',
             *(f'--gin_param={setting}' for setting in SETTINGS), *words)
        return json.loads((pathlib.Path(workdir) / 'results.json').read_text())
    return run


@pytest.mark.slow
def test_a_run_is_moved_from_one_odd_folder_to_another_and_gone_on_with(call, train, tmp_path):
    records = tmp_path / 'records [x]'
    call('prepare_data', '--dataset=shapes', f'--output={records}',
         *(f'--option={name}={value}' for name, value in SCENES.items()))
    first = tmp_path / 'wd [a]\\' / 'run {1,2}'
    assert 'LoAd' in train(first, records)['models']
    assert any((first / 'tensorboard').rglob('events*'))
    moved = tmp_path / 'w [1]*' / 'r?'
    moved.parent.mkdir()
    first.rename(moved)
    again = train(moved, records, '--gin_param=controller.max_total_cycles=2')
    cycles = {json.loads(line).get('cycle') for line in (moved / 'journal.jsonl').open()}
    assert {0, 1} < cycles
    assert np.isfinite(again['models']['LoAd']['test']['miou'])
    image = tmp_path / 'a [3].png'
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(image)
    maps = tmp_path / 'maps [2]'
    call('predict', f'--checkpoint={moved}', f'--output={maps}', f'--input={image}')
    assert (maps / 'a [3].png').is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'a [3].png', 'maps [2]', 'records [x]', 'w [1]*', 'wd [a]\\']
