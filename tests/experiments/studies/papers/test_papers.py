"""The catalogue of the papers' tables and figures: whole, and with the numbers that are printed."""
import re

import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.data import official_specs
from tf_advseg.experiments.studies import papers
from tf_advseg.experiments.studies import tabled_measures
from tf_advseg.experiments.studies.papers import entry as entries
from tf_advseg.experiments.studies.papers import needs

REPOSITORY = configuration.gin_root().parent
TEXTS = {'load': 'load_lookahead_adversarial_learning.txt', 'luc': 'luc_adversarial_networks.txt',
         'durall': 'durall_pixelwise_adversarial_loss.txt',
         'hung': 'hung_semi_supervised_adversarial.txt', 'zhu': 'zhu_seggan_segwgan.txt'}
ALL = [(paper, entry) for paper in papers.PAPERS.values() for entry in paper.entries]
IDS = [f'{paper.name}-{entry.kind}{entry.number}' for paper, entry in ALL]
WAYS = [(paper.name, entry, name, way) for paper, entry in ALL
        for name, way in entry.ways().items()]
WAY_IDS = [f'{paper}-{entry.kind}{entry.number}-{name}' for paper, entry, name, _ in WAYS]


def expected(tables, figures, more=()):
    return {*(('table', str(number)) for number in range(1, tables + 1)),
            *(('figure', str(number)) for number in range(1, figures + 1)), *more}


EXPECTED = {'load': expected(8, 8), 'durall': expected(4, 8), 'hung': expected(9, 6),
            'zhu': expected(6, 10),
            'luc': expected(2, 4, [('table', 'S1'), ('table', 'S2'), ('table', 'S3'),
                                   ('figure', 'S1')])}


def read(shared, name):
    return (shared / 'papers' / TEXTS[name]).read_text(encoding='utf-8')


@pytest.mark.parametrize('name', EXPECTED)
def test_every_table_and_figure_is_listed_once(name):
    listed = [(entry.kind, entry.number) for entry in papers.PAPERS[name].entries]
    assert len(listed) == len(set(listed)) and set(listed) == EXPECTED[name]


@pytest.mark.parametrize('name', EXPECTED)
def test_they_are_those_that_the_text_has(shared, name):
    main, _, supplement = read(shared, name).partition('— Supplementary Material —')
    found = {(kind.lower(), mark + number) for text, mark in ((main, ''), (supplement, 'S'))
             for kind, number in re.findall(r'(?m)^ ?(Table|Figure) (\d+):', text)}
    assert found == EXPECTED[name]


def numbers(text):
    """Every number of a text: {float}."""
    return {float(word) for word in re.findall(r'\d+(?:\.\d+)?', text)}


@pytest.mark.parametrize('paper, entry', ALL, ids=IDS)
def test_its_numbers_stand_in_the_text(paper, entry, shared):
    if paper.name not in TEXTS:
        assert entry.numbers == ()
        return
    there = numbers(read(shared, paper.name))
    there |= {round(100 * value, 4) for value in there if paper.name == 'durall'}
    printed = {float(value) for _, values in entry.numbers for value in values
               if value is not None}
    assert printed <= there


def by_rows(text, start, label):
    """Numbers of the rows of a table that begin with a label, one row behind the other."""
    segment = text[text.index(start):]
    segment = segment[:segment.index('\n\n', len(start) + 200)]
    rows = [line.split('\t')[1:] for line in segment.splitlines()
            if re.sub(r' ?\[.*', '', line.split('\t')[0]) == label]
    return [float(re.sub('</?b>', '', word)) for row in rows for word in row if word.strip()]


# Tables whose rows can be read whole from the text: (paper, number, where they begin, which of our
# places the text's first number takes).
@pytest.mark.parametrize('name, number, start, first', [
    ('zhu', '1', 'Table 1: Per-class results on Cityscapes', -1),
    ('zhu', '2', 'Table 2: Results on Cityscapes', 0), ('zhu', '3', 'Table 3: Per-class', -1),
    ('zhu', '4', 'Table 4: The segmentation', 0), ('zhu', '5', 'Table 5: The segmentation', 0),
    ('zhu', '6', 'Table 6: The segmentation', 0), ('luc', '1', '\tPer-class acc.', 0),
    ('luc', 'S3', '\tbackground\taeroplane', 0), ('durall', '1', 'Method\tbackground', 0)])
def test_its_rows_are_the_texts(shared, name, number, start, first):
    entry, text = papers.find(name, 'table', number), read(shared, name)
    assert len(entry.numbers) > 1
    for label, values in entry.numbers:
        found = by_rows(text, start, 'Baseline' if (name, label) == ('luc', 'baseline') else label)
        if name == 'durall':
            found = [round(100 * value, 4) for value in found]
        assert found == [*values[first:], *values[:first]] if first else found == list(values)


@pytest.mark.parametrize('paper, entry', ALL, ids=IDS)
def test_an_entry_is_whole(paper, entry):
    del paper
    assert entry.title and entry.kind in ('table', 'figure')
    assert entry.ways() or entry.why, 'says why nothing is run'
    if entry.paper is not None and entry.here is None:
        at_hand = all(needs.NEEDS[kind][name].shared or needs.NEEDS[kind][name].generated
                      for kind, name in entry.paper.needs())
        assert at_hand or entry.why, 'says why nothing stands in its place'
    assert len(entry.columns) == len(entry.measures)
    for label, values in entry.numbers:
        assert label and len(values) == len(entry.columns)
    if entry.kind == 'table' and entry.ways():
        assert entry.columns
    classes = {name for spec in official_specs.SPECS.values() for name in spec.class_names}
    for measure in filter(None, entry.measures):
        assert (measure[len('iou/'):] in classes if measure.startswith('iou/')
                else measure in tabled_measures.MEASURES), measure


@pytest.mark.parametrize('paper, entry, name, way', WAYS, ids=WAY_IDS)
def test_a_way_is_whole(paper, entry, name, way):
    del paper, name
    assert way.commands and (way.rows or way.files or way.chart)
    for kind, needed in way.needs():
        assert needed in needs.NEEDS[kind]
    left = entries.PLACE.sub('', ' '.join(way.commands)).replace(entries.WORK, '')
    assert '<' not in left and '>' not in left, 'a place that nobody knows'
    for label, sources in way.rows:
        assert label and len(sources) in (1, len(entry.columns))
        assert any(sources)
    if way.time is not None:
        file = REPOSITORY / way.time.file
        assert file.is_file()
        assert numbers(way.time.text) <= numbers(file.read_text(encoding='utf-8'))


def test_what_stands_in_a_place_can_be_had_here():
    """Its data and weights are generated or lie in ../shared."""
    for _, _, name, way in WAYS:
        for kind, needed in way.needs() if name == 'here' else ():
            need = needs.NEEDS[kind][needed]
            assert need.generated or need.shared, needed


def test_files_at_hand_are_there(shared):
    named = [need.shared for found in needs.NEEDS.values() for need in found.values()
             if need.shared]
    assert len(named) >= 4
    for path in named:
        assert (shared / path).is_file()


def test_an_unknown_one_is_refused_in_one_line():
    assert papers.find('luc', 'table', 's2').number == 'S2'
    for arguments, text in ((('luk', 'table', '1'), 'luc'), (('luc', 'table', '7'), 'S3'),
                            (('el_gan', 'figure', '1'), 'none')):
        with pytest.raises(UserError, match=text) as caught:
            papers.find(*arguments)
        assert '\n' not in str(caught.value)


def test_files_that_are_named_are_there():
    """Of gin and of Python files, in notes and reasons: where commands name one, gin reads it."""
    named = {name for _, entry in ALL for text in (entry.why, *(
        way.note for way in entry.ways().values())) for name in re.findall(
            r'(?:gin|tf_advseg)/[\w/]+\.(?:gin|py)', text)}
    assert len(named) >= 4
    for name in named:
        assert (REPOSITORY / name).is_file(), name
