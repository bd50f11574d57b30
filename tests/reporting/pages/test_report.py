"""The report: one file, complete, escaped, sensible when half of it is missing."""
import base64
import dataclasses
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.core.journal import Journal
from tf_advseg.reporting.pages import report

VOID = {'meta', 'img', 'br', 'link', 'input'}
MODELS = {'start': 'Stage 1', 'control': 'control', 'subject': 'LoAd'}


class _Page(HTMLParser):
    """Checks that tags nest, collects sources and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = ' '.join(' '.join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v for k, v in attributes if k in ('src', 'href')]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('style', 'title'):
            self.words.append(data)


@pytest.fixture(scope='module')
def full(run, control, make_summary):
    def models(base):
        return {'Stage 1': make_summary(base), 'control': make_summary(base + 0.012),
                'LoAd': make_summary(base + 0.021)}
    panel = np.zeros((40, 60, 3), np.uint8)
    return report.run_report(
        'A run', run.events, run.metrics, control.events, control.metrics, 0.001, 0.05,
        holdout=models(0.64), test=models(0.60), panels=[('Test images', panel)],
        configuration='train.seed = 7\nname = "<b>"', **MODELS,
        environment={'python': '3.11', 'packages': {'tensorflow': '2.15.1'}, 'argv': ['a', 'b']})


def test_everything_is_on_one_self_contained_page(full, tmp_path):
    report.write_report(tmp_path / 'report.html', full)
    assert [p.name for p in tmp_path.iterdir()] == ['report.html']
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    page = _Page(text)
    assert len(page.sources) == 7       # six figures, one panel
    for source in page.sources:
        assert source.startswith('data:image/png;base64,')
        Image.open(io.BytesIO(base64.b64decode(source.split(',')[1]))).verify()
    assert not re.search(r'https?://|@import|url\(|<script', text)
    assert 'width=device-width' in text and 'prefers-color-scheme: dark' in text
    for words in ('Results', 'Curves', 'Panels', 'Wall time', 'Journal', 'Versions and machine',
                  'Configuration', 'train.seed = 7', 'packages: tensorflow 2.15.1',
                  'vs Stage 1', 'vs control', 'generator step 6 min 50 s 45.4 %'):
        assert words in page.text, words


def test_hold_out_and_test_side_by_side_with_the_warning(full):
    page = _Page(report.render(dataclasses.replace(full, figures=[])))
    assert report.CHOICE_NOTE in page.text and report.NO_CONTROL_NOTE not in page.text
    assert 'hold-out (peaks were chosen by it)' in page.text and 'test (chose nothing)' in page.text
    assert 'mIoU 64.00 65.20 66.10 +2.10 +0.90 60.00 61.20 62.10 +2.10 +0.90' in page.text


def test_summary_tells_gains_on_the_test_split(full):
    text = ' '.join(full.summary)
    assert '130 propagations in 6 cycles, 2 cycles with a new peak' in text
    assert '71.50 %, against 66.00 % at the start (+5.50 points)' in text
    assert 'LoAd has 62.10 % mIoU: +2.10 points against Stage 1, +0.90 points against control' \
        in text
    assert full.state == 'finished'


def test_own_sentences_come_first_and_unknown_fields_are_refused(run):
    made = report.run_report('t', run.events, summary=['Mine.'], state='stopped')
    assert made.summary[0] == 'Mine.' and made.state == 'stopped' and len(made.summary) > 2
    with pytest.raises(TypeError, match='no field'):
        report.run_report('t', run.events, colour='red')


def test_everything_is_escaped(run, make_summary):
    bad = '<script>alert("x")</script>&\''
    events = run.events + [{'event': 'peak', 'cycle': 9, 'budget_step': 140, 'label': bad,
                            'miou': 0.72}]
    text = report.render(report.run_report(
        bad, events, summary=[bad], state=bad, holdout={bad: make_summary(0.5, (bad, 'sky'))},
        start=bad, subject=bad, figures=[], panels=[(bad, np.zeros((4, 4, 3), np.uint8))],
        configuration=bad, environment={bad: bad}, wall_time={bad: 3.0}))
    assert '<script' not in text and '&lt;script&gt;' in text
    page = _Page(text)
    assert page.text.count('alert') >= 8


@pytest.mark.parametrize('cut', [0, 2, 6])
def test_a_run_not_finished_gives_a_sensible_page(make_run, cut):
    run = make_run(finished=False)
    made = report.run_report('Half a run', run.events[:cut], run.metrics[:130] if cut else ())
    made.figures = made.figures[:2]
    page = _Page(report.render(made))
    assert 'Nothing has been evaluated yet' in page.text
    assert made.state == ('running' if cut else 'not started')
    assert ('not finished yet' in page.text) == bool(cut)
    assert 'Wall time' not in page.text and 'nan' not in page.text.lower().split()


def test_without_a_control_the_page_says_what_that_means(run, make_summary):
    made = report.run_report('No control', run.events, start='Stage 1', figures=[],
                             holdout={'Stage 1': make_summary(0.6), 'control': None,
                                      'LoAd': make_summary(0.61)})
    page = _Page(report.render(made))
    assert report.NO_CONTROL_NOTE in page.text and 'vs control' not in page.text
    assert 'The test split has not been evaluated yet' in page.text


def test_a_plain_dict_will_do(tmp_path):
    report.write_report(tmp_path / 'r.html', {'title': 'Bare'})
    page = _Page((tmp_path / 'r.html').read_text(encoding='utf-8'))
    assert 'Bare' in page.text and 'Nothing has been evaluated' in page.text
    with pytest.raises(TypeError):
        report.write_report(tmp_path / 'r.html', {'titel': 'Bare'})


def test_an_unwritable_place_is_one_line(tmp_path):
    with pytest.raises(UserError) as caught:
        report.write_report(tmp_path / 'absent' / 'r.html', {'title': 'x'})
    assert '\n' not in str(caught.value) and 'absent' in str(caught.value)


def test_the_page_of_a_written_journal(run, tmp_path):
    journal = Journal(tmp_path / 'journal.jsonl', clock=lambda: 0.0)
    for event in run.events:
        fields = {k: v for k, v in event.items() if k not in ('event', 'time')}
        journal.append(event['event'], **fields)
    read = Journal.read(tmp_path / 'journal.jsonl')
    assert report.run_report('t', read).summary == report.run_report('t', run.events).summary


@pytest.mark.parametrize('seconds, text', [(0.04, '0.0 s'), (59.9, '59.9 s'), (200, '3 min 20 s'),
                                           (3599.7, '1 h 00 min'), (7500, '2 h 05 min')])
def test_duration(seconds, text):
    assert report.duration(seconds) == text


def test_reporting_needs_no_tensorflow(repository):
    code = ('import sys; import tf_advseg.reporting.pages.report, tf_advseg.reporting.panels; '
            'sys.exit("tensorflow" in sys.modules or "matplotlib.pyplot" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], cwd=repository).returncode == 0


def test_many_models_have_a_table_for_each_split(full):
    """Four models and their gains beside each other would need a scroll bar."""
    names = ('Stage 1', 'control', 'control + SWA', 'LoAd', 'LoAd + SWA')
    some = next(iter(full.test.values()))
    wide = dataclasses.replace(full, figures=[], holdout=dict.fromkeys(names, some),
                               test=dict.fromkeys(names, some))
    text = _Page(report.render(wide)).text
    assert 'Per class, hold-out (peaks were chosen by it)' in text
    assert 'Per class, test (chose nothing)' in text and 'Per class, hold-out' not in _Page(
        report.render(dataclasses.replace(full, figures=[]))).text
