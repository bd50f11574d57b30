"""The evaluation's page: one file, whole, nothing fetched, everything escaped."""
import html.parser

import numpy as np

from tf_advseg.reporting import comparison, confusion, tables
from tf_advseg.reporting.pages import evaluation_page

ENTRY = {'delta': 0.01, 'low': -0.02, 'high': 0.03, 'images': 9}
FOUND = {'miou': ENTRY, 'class_iou': {'sky': ENTRY}, 'images': 9, 'samples': 9, 'level': 0.95}


class Links(html.parser.HTMLParser):
    """What a page would fetch, and its headings."""

    def __init__(self):
        super().__init__()
        self.fetched, self.images, self.text = [], 0, []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ('src', 'href'):
                self.images += tag == 'img'
                self.fetched += [] if value.startswith('data:image/png;base64,') else [value]

    def handle_data(self, data):
        self.text.append(data.strip())


def test_everything_is_there_and_nothing_is_fetched(tmp_path):
    scores = tables.plain_table(('class', 'run'), [('<sky>', '50.00')], 'IoU')
    page = evaluation_page.EvaluationPage(
        'run & co on shapes', ['one <b>sentence</b>'], scores,
        [tables.plain_table(('measure', 'run'), [('BF', '3')], 'boundary')],
        [(comparison.interval_table(FOUND, 'a', 'b'), comparison.interval_figure(FOUND, 'a', 'b'))],
        comparison.NOTE, [('confused', confusion.confusion_figure(np.eye(2, dtype=int), 'xy'))],
        [('Worst images', 'by mIoU', np.zeros((4, 5, 3), np.uint8))])
    evaluation_page.write_evaluation_page(tmp_path / 'report.html', page)
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    links = Links()
    links.feed(text)
    assert not links.fetched and links.images == 3
    for heading in ('run & co on shapes', 'Scores', 'Differences', 'Further measures', 'Confusion',
                    'Worst images', '<sky>', comparison.NOTE):
        assert heading in links.text
    assert '<b>sentence' not in text and '<script' not in text


def test_empty_parts_are_left_out():
    text = evaluation_page.render(evaluation_page.EvaluationPage('t'))
    assert '<h1>t</h1>' in text and '<h2>' not in text
