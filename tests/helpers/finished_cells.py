"""Cells of a sweep that look finished."""
from tf_advseg.core import files


def make_done(cell, scores):
    """Writes a results.json, {model: mIoU} on both splits, and a report, for a sweep's cell."""
    cell.folder.mkdir(parents=True)
    (cell.folder / 'report.html').touch()
    files.write_json(cell.folder / 'results.json', {'models': {
        model: {split: {'miou': value} for split in ('holdout', 'test')}
        for model, value in scores.items()}})
