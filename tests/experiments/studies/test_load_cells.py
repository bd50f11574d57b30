"""LoAd's Table 7: the committed files are those of the table, and the table is the paper's."""
import pathlib
import re

import pytest

from tf_advseg.core import configuration
from tf_advseg.experiments.studies import load_cells

PAPER = (pathlib.Path(__file__).resolve().parents[4] / 'shared' / 'papers'
         / 'load_lookahead_adversarial_learning.txt')


def test_the_files_are_what_the_table_says():
    folder = configuration.gin_root()
    made = {cell.name: cell.text() for cell in load_cells.cells()}
    assert len(made) == 6
    for name, text in made.items():
        assert (folder / name).read_text(encoding='utf-8') == text
    there = {f'papers/load/{path.name}' for path in (folder / 'papers/load').glob('voc_table7_*')}
    assert there == set(made)


@pytest.mark.parametrize('cell', load_cells.cells(), ids=lambda cell: cell.name)
def test_a_cell_binds_what_is_printed(cell):
    from tf_advseg.experiments.train import training  # noqa: F401  registers what the files bind
    configuration.parse([cell.name])
    assert configuration.bound('controller.beta_l') == pytest.approx(cell.beta_l / 100)
    assert configuration.bound('controller.beta_u') == pytest.approx(cell.beta_u / 100)
    assert configuration.bound('controller.patience') == cell.patience
    assert configuration.bound('map_buffer.capacity') == cell.capacity
    assert configuration.bound('experiment.network') == 'deeplab_xception'
    configuration.parse([], [])


@pytest.mark.skipif(not PAPER.is_file(), reason='the papers are not here (../shared/papers)')
def test_the_table_is_the_papers():
    text = PAPER.read_text(encoding='utf-8')
    part = text[text.index('Table 7:'):][:1200]
    rows = [tuple(float(word) for word in re.findall(r'[\d.]+', line.split('LoAd')[-1]))
            for line in part.splitlines() if re.search(r'LoAd.*8\d\.\d\d', line)]
    assert rows == [tuple(map(float, row)) for row in load_cells.TABLE]
    assert f'{load_cells.BASELINE:.2f}' in part
