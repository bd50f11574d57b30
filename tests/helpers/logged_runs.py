"""Run directories that have logged evaluations, by hand."""
import json


def evaluated(stage, points, split='holdout'):
    """Lines of metrics.jsonl as a stage of two networks logs them."""
    return [{'event': 'evaluation', 'stage': stage, 'segmentor_step': step, 'split': split,
             'miou': miou} for step, miou in points]


def make_run(folder, lines, control=None):
    """A run directory that has logged some lines, its own loop's control others."""
    folder.mkdir(parents=True)
    (folder / 'config.gin').write_text('experiment.seed = 0\n')
    parts = {folder: lines, **({} if control is None else {folder / 'control': control})}
    for place, found in parts.items():
        place.mkdir(exist_ok=True)
        (place / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in found))
    return folder
