"""A whole evaluation as a folder: scores, tables, confusion matrix, panels, one page of it all."""
import re

from tf_advseg.core import files
from tf_advseg.core import output_folder
from tf_advseg.experiments import comparing
from tf_advseg.reporting import comparison
from tf_advseg.reporting import confusion
from tf_advseg.reporting import curves
from tf_advseg.reporting import evaluation_page
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables

RECORD = 'scores.json'


def write(path, results, scored, pictures, told):
    """Writes the folder; it is whole or not there.

    Args:
      path: as from `output_folder.require_replaceable`.
      results: from `evaluating.evaluate`.
      scored: {name: evaluating.Scored}, the first is the one that is told about.
      pictures: `evaluating.Pictures`.
      told: [tables.Table]: the scores, further measures, comparisons.

    scores.json has, beside the results, 'counts': {name: PictureCounts.to_json()}, from which any
    IoU figure of any of the pictures can be had again. classes.csv is the first table.
    """
    spec = pictures.records.spec
    first = next(iter(scored))
    matrix = confusion.confusion_figure(
        scored[first].counts.matrix, spec.class_names,
        f'{first} on {results["split"]} of {results["dataset"]}')
    drawn = _panels(pictures, scored)
    number = len(results.get('comparisons', ()))
    page = evaluation_page.EvaluationPage(
        f'{first} on {results["dataset"]}, {results["split"]}', _summary(results, first), told[0],
        told[1:len(told) - number], list(zip(told[len(told) - number:], _intervals(results))),
        comparison.NOTE if number else '',
        [(f'What {first} takes the pixels of each class for, in percent of the class\'s pixels.',
          matrix)], [(heading, caption, image) for _, heading, caption, image in drawn])
    with output_folder.written(path, RECORD) as folder:
        files.write_json(folder / RECORD, {**results, 'counts': {
            name: one.counts.to_json() for name, one in scored.items()}})
        with files.atomic_file(folder / 'classes.csv', 'w') as file:
            file.write(tables.to_csv(told[0]))
        with files.atomic_file(folder / 'confusion.png') as file:
            file.write(curves.encode(matrix))
        for name, _, _, image in drawn:
            panels.write_png(folder / f'{name}.png', image)
        evaluation_page.write_evaluation_page(folder / 'report.html', page)


def _summary(results, first):
    """The page's first sentences."""
    own = results['models'][first]
    score = 'no mIoU' if own['miou'] is None else f'mIoU {100 * own["miou"]:.2f} %'
    lines = [f'{score} over {results["pictures"]} pictures. Pixels labelled 255 count nowhere. '
             + ('Classes in neither truth nor prediction count as 0.' if own['absent'] == 'zero'
                else 'Classes in neither truth nor prediction are left out of means.')]
    shown = ', '.join(f'{scale:g}' for scale in results['scales'])
    lines.append(f'Scales {shown}{", and mirrored" if results["flip"] else ""}; '
                 + ('windows {}x{}'.format(*results['window']) if results['window']
                    else 'whole pictures') + f'; padding: {results["padding"]}.')
    lines += [f'{name}: {path}' for name, path in results['checkpoints'].items()]
    return lines


def _intervals(results):
    """A figure a comparison."""
    first = next(iter(results['models']))
    return [comparison.interval_figure(found, first, other)
            for other, found in results.get('comparisons', {}).items()]


def _panels(pictures, scored):
    """[(file's name, heading, caption, uint8 [H, W, 3])]."""
    first = next(iter(scored))
    worst, best = comparing.extremes(scored[first].counts)
    wanted = [(name, heading, f'By the mIoU of each picture, of {first}. Unlabelled pixels are '
               'black.', positions, scored)
              for name, heading, positions in (('worst', 'Worst pictures', worst),
                                               ('best', 'Best pictures', best))]
    for other in list(scored)[1:]:
        positions = comparing.most_different(scored[first].counts, scored[other].counts)
        wanted.append((f'differences_{re.sub(r"[^A-Za-z0-9.-]+", "_", other).strip("_.")}',
                       f'Where {first} and {other} differ most',
                       'By the difference of the mIoU of each picture. Unlabelled pixels are '
                       'black.', positions, {first: scored[first], other: scored[other]}))
    return [(name, heading, caption, comparing.panel(pictures, positions, models))
            for name, heading, caption, positions, models in wanted if positions]
