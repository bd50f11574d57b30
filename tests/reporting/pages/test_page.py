"""The pages' templates: whatever comes from outside is escaped, and no value is forgotten."""
import jinja2
import markupsafe
import numpy as np
import pytest

from tf_advseg.data.doctor.examination import Diagnosis
from tf_advseg.data.doctor.facts import ImageFacts
from tf_advseg.data.doctor.findings import Finding
from tf_advseg.data.spec import DatasetSpec, default_palette
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import doctor_page, evaluation_page, page, report

NAME = '<script>alert(1)</script>'  # of a class
IMAGE = np.full((20, 30, 3), 200, np.uint8)


def run_page(make_summary):
    """A run's report: the class has a row of a table, and its name is in gin text and captions."""
    models = {'Stage 1': make_summary(0.5, ('sky', NAME)), 'LoAd': make_summary(0.6, ('sky', NAME))}
    return report.render(report.RunReport(
        holdout=models, test=models, start='Stage 1', control=None, panels=[(NAME, IMAGE)],
        configuration=f'names = ("{NAME}",)', environment={'argv': [NAME]}, journal=[NAME]))


def examination_page(make_summary):
    """The doctor's page: the class has a row, a contact sheet and a finding."""
    del make_summary
    counts = np.zeros(256, np.int64)
    counts[:2] = 60, 40
    return doctor_page.render(
        Diagnosis('folder', None, DatasetSpec('mine', ('sky', NAME), default_palette(2)),
                  {'train': ['a']}, {'a': ImageFacts('a', counts=counts, size=(10, 10))},
                  [Finding('note', 'one_class', f'only {NAME}', (), f'look at {NAME}')]),
        classes=[(NAME, IMAGE)], suspects=[('one_class', NAME, IMAGE)])


def scores_page(make_summary):
    """An evaluation's page: the class has a row, a heading and a caption."""
    return evaluation_page.render(evaluation_page.EvaluationPage(
        'scores', [f'Of {NAME}.'], tables.class_table({'run': make_summary(0.5, ('sky', NAME))}),
        panels=[(NAME, NAME, IMAGE)]))


@pytest.mark.parametrize('render, places', [(run_page, 6), (examination_page, 7),
                                            (scores_page, 5)])
def test_a_class_s_name_is_escaped(make_summary, render, places):
    text = render(make_summary)
    assert '<script' not in text
    # In every place, and not twice in any.
    assert text.count(str(markupsafe.escape(NAME))) == places
    assert '&amp;lt;' not in text


def test_a_part_goes_into_a_page_as_it_is(make_summary):
    table = tables.to_html(tables.class_table({'run': make_summary(0.5, ('sky', NAME))}))
    image = page.figure(NAME, b'\xff\xd8 a "JPEG"', width=30)
    for part in (table, image):
        assert isinstance(part, markupsafe.Markup) and markupsafe.escape(part) == part
    assert 'src="data:image/jpeg;base64,/9gg' in image and '--wide:30px' in image


def test_a_value_that_was_forgotten_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match='summary'):
        page.render('doctor.html', title='t')
