"""Numbers of our finished runs, for the papers' tables and charts."""
import pathlib

from tf_advseg.core import files
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import tabled_measures

CLASS = 'iou/'  # what stands before a class's name in a measure


def values(source, measure, work):
    """Numbers of all finished runs of a `Source`, in the measure's unit.

    Args:
      source: `entry.Source`, or None: no number.
      measure: a name of `tabled_measures.MEASURES`, 'iou/CLASS', or '': no number.
      work: folder of all runs.
    """
    if source is None or not measure:
        return []
    found = []
    for folder in sorted(pathlib.Path(work).glob(source.runs)):
        path = folder / finished_runs.RESULTS
        if path.is_file():
            with files.as_written(path):
                models = files.read_json(path)['models']
                value = _measured(models.get(source.column, {}).get(source.split, {}), measure)
            found += [] if value is None else [value]
    return found


def _measured(scores, measure):
    if measure.startswith(CLASS):
        value = (scores.get('class_iou') or {}).get(measure[len(CLASS):])
        return None if value is None else 100.0 * value
    known = tabled_measures.MEASURES[measure]
    value = known.of(scores)
    return None if value is None else known.scale * value
