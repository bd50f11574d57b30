"""Tables and charts of documents: made of kept runs, left alone where up to date, and ours are."""
import json
import pathlib

import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import document_tables

ROOT = pathlib.Path(__file__).resolve().parents[3]
OURS = sorted(path for path in ROOT.joinpath('docs').rglob('*.md') if any(
    line.startswith(('<!-- table:', '<!-- chart:'))
    for line in path.read_text('utf-8').splitlines()))


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / 'kept.jsonl'
    lines = []
    for cell, gain in (('a', 0.02), ('b', 0.05)):
        for seed in range(3):
            miou = {'control (CE)': 0.5, 'Luc, teacher': 0.1, 'Luc': 0.5 + gain + 0.01 * seed}
            lines.append({'cell': cell, 'seed': seed, 'subject': 'Luc', 'dataset': 'shapes',
                          'models': {model: {'test': {'miou': value, 'components': 10 * value}}
                                     for model, value in miou.items()}})
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return path


def test_a_table_of_differences_takes_the_place_of_the_old(kept, tmp_path):
    document = tmp_path / 'page.md'
    document.write_text(f'# Page\n\n<!-- table: --runs={kept} --against=a '
                        '--measures=miou,components -->\nold\n<!-- end of table -->\nmore\n')
    assert document_tables.update(document)
    lines = document.read_text().splitlines()
    assert lines[:2] == ['# Page', ''] and lines[-2:] == ['<!-- end of table -->', 'more']
    header, _, *rows = ([cell.strip() for cell in line.strip('|').split('|')]
                        for line in lines[3:-2])
    assert header == ['arm', 'less', 'runs', 'mIoU, points', 'SD', 'runs for ±0.5',
                      'spurious and missed components, regions an image']
    assert [(row[0], row[1]) for row in rows] == [
        ('a', 'control (CE)'), ('b', 'control (CE)'), ('b', 'a: Luc')]
    assert rows[0][2:4] == ['3', '**+3.00 [+0.52, +5.48]**'] and rows[0][4] == '1.00'
    assert rows[2][3] == '**+3.00 [+3.00, +3.00]**' and rows[2][6] == '**+0.30 [+0.30, +0.30]**'
    assert not document_tables.update(document)  # up to date


def test_paths_are_from_the_documents_folder(kept, tmp_path, monkeypatch):
    """Wherever the command is started, and whichever checkout the program is of."""
    monkeypatch.chdir('/')
    document = tmp_path / 'page.md'
    for runs in ('kept.jsonl', './ke*.jsonl', str(kept)):
        document.write_text(f'<!-- table: --runs={runs} -->\n<!-- end of table -->\n'
                            f'<!-- chart: gains.png --runs={runs} -->\n')
        assert document_tables.update(document) and '| a | control (CE) |' in document.read_text()
        (tmp_path / 'gains.png').unlink()


def test_a_chart_is_drawn_anew_where_the_runs_or_the_claims_are_others(kept, tmp_path):
    document, image = tmp_path / 'page.md', tmp_path / 'gains.png'

    def write(claim):
        document.write_text(f'<!-- chart: gains.png --runs={kept} --against=a --claim=b={claim} '
                            '-->\n![gains](gains.png)\n')

    write(1.5)
    assert document_tables.update(document)
    with Image.open(image) as drawn:
        said = drawn.info['Description'].splitlines()
    assert said[1:] == ['a - control (CE): +3.00 [+0.52, +5.48], 3 runs',
                        "b - control (CE): +6.00 [+3.52, +8.48], 3 runs; the paper's +1.50",
                        'b - a: Luc: +3.00 [+3.00, +3.00], 3 runs']
    assert not document_tables.update(document) and not document_tables.old_charts(document)
    write(2.5)
    assert document_tables.old_charts(document) and document_tables.update(document)
    kept.write_text(kept.read_text().replace('0.55', '0.56'))
    assert document_tables.update(document) and not document_tables.update(document)
    image.write_bytes(b'cut off')
    assert document_tables.update(document) and not document_tables.update(document)


@pytest.mark.parametrize('words, message', [
    ('x.png', 'required'), ('--runs={kept}', 'required: image'),
    ('x.svg --runs={kept}', 'expected a PNG'), ('x.png --runs={kept} --claim=c=1', "Known: a, b"),
    ('x.png --runs={kept} --claim=a=much', 'expected CELL=POINTS'),
    ('x.png --runs={kept} --measures=boundary', 'nothing to draw')])
def test_what_is_no_chart_is_named_and_nothing_is_written(kept, tmp_path, words, message):
    document = tmp_path / 'page.md'
    document.write_text(f'<!-- chart: {words.format(kept=kept)} -->\n')
    with pytest.raises(UserError, match=message):
        document_tables.update(document)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['kept.jsonl', 'page.md']


@pytest.mark.parametrize('content, message', [
    ('# Page\n', 'expected "<!-- table:'), ('<!-- table: --runs=x -->\n', 'expected "<!-- table:'),
    ('<!-- table: --against=x -->\n<!-- end of table -->\n', 'required'),
    ('<!-- table: --runs=x.jsonl -->\n<!-- end of table -->\n', 'nothing is called'),
    ('<!-- table: --rums=x -->\n<!-- end of table -->\n', 'not understood'),
    ('<!-- table: --runs="x -->\n<!-- end of table -->\n', 'not understood')])
def test_what_is_no_table_is_named(tmp_path, content, message):
    document = tmp_path / 'page.md'
    document.write_text(content)
    with pytest.raises(UserError, match=message):
        document_tables.update(document)
    assert document.read_text() == content


@pytest.mark.parametrize('path', OURS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_tables_and_charts_of_our_pages_are_up_to_date(path):
    """Else: python tools/sweep.py --update=…"""
    assert document_tables.updated(path) == path.read_text('utf-8')
    assert not document_tables.old_charts(path)


def test_some_of_our_pages_have_tables():
    assert OURS
