"""A whole evaluation as a folder: scores, tables, confusion matrix, panels, one page of it all."""
import re

from tf_advseg.core import files
from tf_advseg.core import output_folder
from tf_advseg.experiments.score import comparing
from tf_advseg.reporting import comparison
from tf_advseg.reporting import confusion
from tf_advseg.reporting import curves
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import evaluation_page

RECORD = 'scores.json'


def write(path, results, scored, images, shown):
    """Writes the folder; it is whole or not there.

    Args:
      path: as from `output_folder.require_replaceable`.
      results: from `evaluating.evaluate`.
      scored: {name: evaluating.Scored}, the first is the one reported on.
      images: `evaluation_data.Images`.
      shown: [tables.Table]: the scores, further measures, comparisons.

    scores.json has, beside the results, 'counts': {name: ImageCounts.to_json()}, from which any
    IoU figure of any of the images can be had again. classes.csv is the first table,
    comparison_NAME.csv that of the differences from a model.
    """
    spec = images.records.spec
    first = next(iter(scored))
    matrix = confusion.confusion_figure(
        scored[first].counts.matrix, spec.class_names,
        f'{first} on {results["split"]} of {results["dataset"]}')
    drawn = _panels(images, scored)
    number = len(results.get('comparisons', ()))
    page = evaluation_page.EvaluationPage(
        f'{first} on {results["dataset"]}, {results["split"]}', _summary(results, first), shown[0],
        shown[1:len(shown) - number],
        list(zip(shown[len(shown) - number:], _intervals(results))),
        comparison.NOTE if number else '',
        [(f'What {first} takes the pixels of each class for, in percent of the class\'s pixels.',
          matrix)], [(heading, caption, image) for _, heading, caption, image in drawn])
    with output_folder.written(path, RECORD) as folder:
        files.write_json(folder / RECORD, {**results, 'counts': {
            name: one.counts.to_json() for name, one in scored.items()}})
        with files.atomic_file(folder / 'classes.csv', 'w') as file:
            file.write(tables.to_csv(shown[0]))
        parts = _file_names(results.get('comparisons', ()))
        for part, intervals in zip(parts.values(), shown[len(shown) - number:]):
            with files.atomic_file(folder / f'comparison_{part}.csv', 'w') as file:
                file.write(tables.to_csv(intervals))
        with files.atomic_file(folder / 'confusion.png') as file:
            file.write(curves.encode(matrix))
        for name, _, _, image in drawn:
            panels.write_png(folder / f'{name}.png', image)
        evaluation_page.write_evaluation_page(folder / 'report.html', page)


def _summary(results, first):
    """The page's first sentences."""
    own = results['models'][first]
    score = 'no mIoU' if own['miou'] is None else f'mIoU {100 * own["miou"]:.2f} %'
    lines = [f'{score} over {results["images"]} images. Pixels labelled 255 count nowhere. '
             + ('Classes in neither truth nor prediction count as 0.' if own['absent'] == 'zero'
                else 'Classes in neither truth nor prediction are left out of means.')]
    if results['left_out']:
        lines.append('Damaged images that were left out: ' + ', '.join(results['left_out']) + '.')
    shown = ', '.join(f'{scale:g}' for scale in results['scales'])
    lines.append(f'Scales {shown}{", and mirrored" if results["flip"] else ""}; '
                 + (comparing.windows_text(results) if results['window']
                    else 'whole images') + f'; padding: {results["padding"]}.')
    lines += [f'{name}: {path}' for name, path in results['checkpoints'].items()]
    return lines


def _intervals(results):
    """A figure a comparison."""
    return [comparison.interval_figure(found, found['of'], found['minus'])
            for found in results.get('comparisons', {}).values()]


def _file_names(names):
    """{model's name: as part of a file's name}, numbered where two would be the same."""
    found, taken = {}, set()
    for name in names:
        plain = part = re.sub(r'[^A-Za-z0-9.-]+', '_', name).strip('_.') or 'model'
        number = 1
        while part.lower() in taken:  # some disks take A and a for the same
            number += 1
            part = f'{plain}_{number}'
        taken.add(part.lower())
        found[name] = part
    return found


def _panels(images, scored):
    """[(file's name, heading, caption, uint8 [H, W, 3])]."""
    first = next(iter(scored))
    worst, best = comparing.extremes(scored[first].counts)
    wanted = [(name, heading, f'By the mIoU of each image, of {first}. Unlabelled pixels are '
               'black.', positions, scored)
              for name, heading, positions in (('worst', 'Worst images', worst),
                                               ('best', 'Best images', best))]
    for other, part in _file_names(list(scored)[1:]).items():
        positions = comparing.most_different(scored[first].counts, scored[other].counts)
        wanted.append((f'differences_{part}',
                       f'Where {first} and {other} differ most',
                       'By the difference of the mIoU of each image, given in the order of the '
                       'columns. Unlabelled pixels are black.', positions,
                       {first: scored[first], other: scored[other]}))
    return [(name, heading, caption, comparing.panel(images, positions, models))
            for name, heading, caption, positions, models in wanted if positions]
