"""Further measures as tables: of what the measures really return."""
import numpy as np

from tf_advseg.data import official_specs
from tf_advseg.evaluation import measures
from tf_advseg.reporting import measure_tables, tables


def summaries():
    """Two models' results on a made-up Cityscapes image: one right, one wrong in a corner."""
    spec = official_specs.SPECS['cityscapes']
    label = np.zeros((24, 32), np.uint8)
    label[4:12, 4:12], label[14:20, 20:30] = 13, 11
    instances = spec.to_official(label).astype(np.int32)
    instances[label == 13] = 26001
    instances[label == 11] = 24000 + 3
    found = {}
    for name, prediction in (('good', label), ('bad', np.where(label == 11, 2, label))):
        made = measures.make_measures(list(measures.MEASURES), spec, [label.shape])
        for measure in made.values():
            measure.update('p', label, prediction, instances)
        results = {key: measure.result() for key, measure in made.items()}
        found[name] = {**results.pop('iou'), **results}
    return found


def test_every_measure_has_a_table_with_a_column_a_model():
    made = measure_tables.measure_tables(summaries())
    assert [table.title.split(',')[0] for table in made] == [
        'mean over images', 'boundary F (Csurka)', 'mIoU near the true boundaries',
        'connected components', "Cityscapes' scores"]
    rows = {row[0].strip(): row[1:] for table in made for row in table.texts()[1:]}
    assert all(table.header[1:] == ('good', 'bad') for table in made)
    for name in ('mIoU of an image, mean (Durall, eq. 8)', 'BF, mean over images',
                 'band of 5 px', 'iIoU, classes'):
        assert rows[name][0] == '100.00' and float(rows[name][1]) < 100.0
    assert rows['missed, an image'] == ['0.00', '1.00']
    assert rows['spurious, an image'] == ['0.00', '1.00']
    assert all('nan' not in tables.to_text(table) for table in made)


def test_a_boundary_measure_of_hidden_boundaries_warns():
    found = summaries()
    titles = [table.title for table in measure_tables.measure_tables(found)]
    # The image has a diagonal of 40 px, and 5 px of these are much.
    assert 'within 12 % of an image\'s diagonal; warning: the smallest' in titles[1]
    for result in found.values():
        result['boundary']['tolerance'].update(theta=0.01, smallest_diagonal=500.0)
    titles = [table.title for table in measure_tables.measure_tables(found)]
    assert not any('warning' in title for title in titles)
    found['bad']['boundary']['without_boundary'] = 0.62
    table = measure_tables.measure_tables(found)[1]
    assert 'warning: 62 % of the true classes' in table.title and 'val_sbd' in table.title
    rows = {row[0]: row[1:] for row in table.texts()[1:]}
    assert rows['true ones without a boundary'] == ['0.00', '62.00']
    assert rows['scored classes of images (a number)'][0] == '3'


def test_what_was_not_measured_has_no_table():
    assert measure_tables.measure_tables({'a': {'miou': 0.5}}) == []


def test_classes_of_one_name_under_several_measures_keep_their_own_values():
    """A class may be called like a measure, and Cityscapes tells categories twice."""
    found = {'a': summaries()['bad']}
    result = found['a']['instances']
    result['category_iou'] = {'human': 0.1, 'vehicle': 0.2}
    result['category_iiou'] = {'human': 0.3, 'vehicle': 0.4}
    found['a']['boundary']['class_f'] = {'precision': 0.123}
    made = measure_tables.measure_tables(found)
    rows = [(row[0], row[1]) for row in made[-1].texts()[1:]]
    first, second = (rows.index((f'{name}, categories', pair)) for name, pair in (
        ('IoU', dict(rows)['IoU, categories']), ('iIoU', dict(rows)['iIoU, categories'])))
    assert rows[first + 1:first + 3] == [('  human', '10.00'), ('  vehicle', '20.00')]
    assert rows[second + 1:second + 3] == [('  human', '30.00'), ('  vehicle', '40.00')]
    texts = made[1].texts()
    assert ['  precision', '12.30'] in texts and ['precision', '12.30'] not in texts
