"""The further measures of an evaluation as tables, one a measure, a column a model."""
from tf_advseg.reporting.tables import Cell, Table


LARGEST_TOLERANCE = 0.1  # share of a diagonal; Luc et al.'s is about 0.01


def measure_tables(models):
    """Tables of the measures beside IoU that summaries hold.

    Args:
      models: {name: summary}, where a summary may have 'boundary', 'trimap', 'components' and
        'instances' (results of the measures of evaluation.measures), and has 'image_miou'.

    Returns:
      list of Tables: the mean over images, then one for each measure that is there.
    """
    made = [_table(models, 'mean over images', _over_images)]
    for name, (title, rows) in _MEASURES.items():
        if all(name in summary for summary in models.values()):
            results = {model: summary[name] for model, summary in models.items()}
            made.append(_table(results, title + _warning(name, results), rows))
    return [table for table in made if table is not None]


def structure_table(models, title='Structure, test'):
    """A Table of what is measured of structure: boundaries, regions, images that became better.

    Args:
      models: {model: summary or None}; a summary may have 'boundary', 'trimap', 'components' and
        'improved'.
      title: its heading.

    Returns:
      Table with a column a model; None where nothing of it was measured.
    """
    return _table({name: summary for name, summary in models.items() if summary}, title, _structure)


def _structure(summary):
    if 'boundary' in summary:
        yield 'boundary F, mean over images, %', _percent(summary['boundary']['mean'])
    for width, figures in summary.get('trimap', {}).get('widths', {}).items():
        yield f'mIoU within {width} px of true boundaries, %', _percent(figures['mean_iou'])
    for kind in ('spurious', 'missed'):
        if 'components' in summary:
            yield f'{kind} components, an image', summary['components'][kind]['per_image']
    for other, share in summary.get('improved', {}).items():
        yield f'images better than {other}\'s, %', _percent(share)


def _table(results, title, rows_of):
    """A Table of what `rows_of` gives of each model, or None where it gives nothing.

    A row's key is its name, or (its group, its name): a class may be called like a measure and come
    under several.
    """
    columns = {name: dict(rows_of(result)) for name, result in results.items()}
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    if not keys:
        return None
    rows = tuple((Cell(key if isinstance(key, str) else f'  {key[1]}'),
                  *(Cell(column.get(key)) for column in columns.values())) for key in keys)
    return Table(('measure', *columns), rows, title)


def _warning(name, results):
    """What is to be known before a measure is believed, for its title; '' for nothing."""
    if name != 'boundary':
        return ''
    tolerance = next(iter(results.values()))['tolerance']
    text = f', within {100 * tolerance["theta"]:.2g} % of an image\'s diagonal'
    if tolerance['theta'] > LARGEST_TOLERANCE:
        text += (f'; warning: the smallest diagonal of the split is '
                 f'{tolerance["smallest_diagonal"]:.0f} px, so that nearly any boundary is near '
                 'enough: leave such images out')
    shares = [result.get('without_boundary') or 0.0 for result in results.values()]
    if max(shares) <= 0.5:
        return text
    return (f'{text}; warning: {100 * max(shares):.0f} % of the true classes of images show no '
            'boundary (ignored pixels hide it), so BF says little: on PASCAL VOC use val_sbd')


def _percent(value):
    return None if value is None else 100.0 * value


def _over_images(summary):
    if 'image_miou' not in summary:
        return
    yield 'mIoU of an image, mean (Durall, eq. 8)', _percent(summary['image_miou'])
    yield 'its standard deviation', _percent(summary['image_miou_std'])
    yield 'matching pixels, eq. 8 literally', _percent(summary['image_miou_pixels'])


def _boundary(result):
    yield 'BF, mean over images', _percent(result['mean'])
    yield 'its standard deviation', _percent(result['std'])
    yield 'precision', _percent(result['precision'])
    yield 'recall', _percent(result['recall'])
    yield 'scored classes of images (a number)', str(result['scored'])
    yield 'true ones without a boundary', _percent(result['without_boundary'])
    for name, value in result['class_f'].items():
        yield ('F', name), _percent(value)


def _trimap(result):
    for width, figures in result['widths'].items():
        yield f'band of {width} px', _percent(figures['mean_iou'])


def _components(result):
    per_image = {'truth': 'components in the truth, an image',
                 'predicted': 'components predicted, an image',
                 'missed': 'missed, an image', 'spurious': 'spurious, an image',
                 'difference': 'difference of the numbers, an image'}
    for kind, name in per_image.items():
        yield name, result[kind]['per_image']
    yield 'missed, % of the truth\'s', _percent(result['missed_share'])
    yield 'spurious, % of the predicted', _percent(result['spurious_share'])


def _instances(result):
    for mean, kind, title in (('mean_iou', 'class_iou', 'IoU, classes'),
                              ('mean_iiou', 'class_iiou', 'iIoU, classes'),
                              ('mean_category_iou', 'category_iou', 'IoU, categories'),
                              ('mean_category_iiou', 'category_iiou', 'iIoU, categories')):
        yield title, _percent(result[mean])
        if kind != 'class_iou':  # those are in the first table
            for name, value in result[kind].items():
                if value is not None:
                    yield (title, name), _percent(value)


_MEASURES = {
    'boundary': ('boundary F (Csurka), percent', _boundary),
    'trimap': ('mIoU near the true boundaries, percent', _trimap),
    'components': ('connected components', _components),
    'instances': ('Cityscapes\' scores, percent', _instances)}
