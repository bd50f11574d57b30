"""What the doctor says: counted, the worst first, everything escaped, nothing fetched."""
import re

import numpy as np
import pytest

from tf_advseg.data.doctor.examination import Diagnosis
from tf_advseg.data.doctor.facts import ImageFacts
from tf_advseg.data.doctor.findings import TITLES, Finding
from tf_advseg.data.spec import DatasetSpec, default_palette
from tf_advseg.reporting.pages import doctor_page


@pytest.fixture
def diagnosis():
    counts = np.zeros(256, np.int64)
    counts[[0, 1, 255]] = 60, 20, 20
    facts = {i: ImageFacts(i, counts=counts, size=(10, 10)) for i in 'abc'}
    findings = [Finding('error', 'label_ids', f'<x{i}>.png: id 9', (f'x{i}.png',), 'name <it>')
                for i in range(8)] + [Finding('note', 'one_class', 'only one')]
    spec = DatasetSpec('mine', ('sky', 'road & <b>'), default_palette(2))
    return Diagnosis('folder', None, spec, {'train': ['a', 'b'], 'val': ['c']}, facts, findings)


def test_text_tells_a_few_of_a_kind_and_how_many_more(diagnosis):
    lines = doctor_page.text(diagnosis).splitlines()
    assert lines[0] == 'mine: 3 images in 2 classes; train 2, val 1'
    diagnosis.facts['a'].troubles = (('label_ids', 'id 9'),)
    assert doctor_page.summary(diagnosis) == (
        'mine: 3 images, 1 of them could not be counted, in 2 classes; train 2, val 1')
    assert doctor_page.class_table(diagnosis).texts()[1] == ['sky', '75.00 %', '1', '75.00 %', '1']
    assert 'error: labels with ids that are no class (8)' in lines
    assert sum(line.startswith('  <x') for line in lines) == 5
    assert any('and 3 more' in line for line in lines)
    assert lines.count('  -> name <it>') == 1
    assert lines[-1] == '8 errors, 0 warnings, 1 note'
    assert doctor_page.text(diagnosis, 99).count('  <x') == 8


def test_shares_are_of_labelled_pixels(diagnosis):
    rows = doctor_page.class_table(diagnosis).texts()
    assert rows[0] == ['class', 'train: pixels', 'train: images', 'val: pixels', 'val: images']
    assert rows[1] == ['sky', '75.00 %', '2', '75.00 %', '1']
    assert rows[3] == ['(ignored)', '20.00 %', '', '20.00 %', '']


def test_of_many_classes_only_those_that_are_there_have_a_row(diagnosis):
    names = [f'class_{i}' for i in range(60)]
    diagnosis.spec = DatasetSpec('mine', names, default_palette(60))
    assert [row[0] for row in doctor_page.class_table(diagnosis).texts()] == [
        'class', 'class_0', 'class_1', '(ignored)']


def test_without_a_label_there_are_no_shares(diagnosis):
    diagnosis.facts['c'].counts = None
    assert doctor_page.class_table(diagnosis).texts()[3] == ['(ignored)', '20.00 %', '', '0.00 %',
                                                             '']
    for one in diagnosis.facts.values():
        one.counts = None
    assert doctor_page.class_table(diagnosis) is None
    assert 'pixels' not in doctor_page.text(diagnosis)


def test_the_page_holds_all_and_fetches_nothing(diagnosis, tmp_path):
    sheet = np.full([20, 30, 3], 200, np.uint8)
    doctor_page.write(tmp_path / 'page.html', diagnosis, [('road & <b>', sheet)],
                      [('one_class', 'a note', sheet)])
    page = (tmp_path / 'page.html').read_text(encoding='utf-8')
    assert page.count('&lt;x') == 8 and '<x' not in page and '& <b>' not in page
    assert 'road &amp; &lt;b&gt;' in page and TITLES['one_class'] in page
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) == 2 and all(s.startswith('data:image/jpeg;base64,') for s in sources)


def test_what_could_not_be_opened_is_told():
    text = doctor_page.text(Diagnosis('there', None, None, {}, {}, [
        Finding('error', 'refused', 'no lists')]))
    assert text.startswith('there: could not be opened') and '  no lists' in text
    page = doctor_page.render(Diagnosis('there', None, None, {}, {}, []))
    assert 'Nothing was found' in page and 'Examination of there' in page
