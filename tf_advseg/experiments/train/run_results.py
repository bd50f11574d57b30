"""What a run leaves to read: scores on data that chose nothing, panels, the report."""

import numpy as np

from tf_advseg.core import files
from tf_advseg.core import journal as journals
from tf_advseg.evaluation import prediction
from tf_advseg.reporting import like_with_like
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import report as reports
from tf_advseg.run import networks
from tf_advseg.run import semi_supervised
from tf_advseg.training import checkpoints

# The names a reader sees: of the run's folders below checkpoints/, and of methods.
START, CONTROL = 'Stage 1', 'control (CE)'
TITLES = {'load': 'LoAd', 'luc': 'Luc', 'durall': 'Durall', 'hung': 'Hung',
          'zhu': 'Zhu'}
AVERAGED = like_with_like.AVERAGED
SPLITS = ('holdout', 'val_without_holdout', 'test')
PANEL_ROWS = 4


def columns(method):
    """{folder below checkpoints/: the name a reader sees}, the method's own result last."""
    title = TITLES.get(method)
    own = {'last': title, 'best': title, 'averaged': title + AVERAGED} if title else {}
    return {'stage1': START, 'stage1_averaged': START + AVERAGED, 'control': CONTROL,
            'control_averaged': CONTROL + AVERAGED, **own}


def scores(context, segmentor, seconds, method='load', leave_out=()):
    """Evaluates every model of the run on every part of the data.

    Leaves the weights of the last of them in `segmentor`. Folders below checkpoints/ in
    `leave_out` are no models to be shown.

    Returns:
      {'models': {column: {split: summary}}, 'subject': the method's column, 'seconds': ...,
      'seed': ..., 'dataset': ..., 'pictures': {split: number}, 'left_out': [ids of damaged
      pictures], 'pictures_left_out': {'train', 'val', 'test': number}, 'test_shares': {'train',
      'holdout': how many pictures of test are these, too}}; a split without pictures is left out.
      And what `semi_supervised.tell_rare` adds.
    """
    ids = {'holdout': context.data.holdout, 'val_without_holdout': context.data.rest,
           'test': context.data.test}
    models = {}
    for name, column in columns(method).items():
        if name in leave_out:
            continue
        if (context.run.checkpoints / name / networks.DESCRIPTION).exists():
            networks.load_weights(context.run.checkpoints / name, segmentor)
            models[column] = {split: context.evaluate(segmentor, ids[split]) for split in SPLITS
                              if ids[split]}
    results = {'models': models, 'subject': _subject(models, method), 'seconds': seconds,
               'seed': context.streams.seed_value,
               'dataset': context.data.spec.name,
               'pictures': {name: len(part) for name, part in ids.items()},
               'left_out': context.data.records.left_out,
               'pictures_left_out': {name: len(part)
                                     for name, part in context.data.left_out.items()},
               'test_shares': {name: len(set(part).intersection(context.data.test)) for name, part
                               in (('train', context.data.train),
                                   ('holdout', context.data.holdout))}}
    semi_supervised.tell_rare(results, context.data)
    return results


def _subject(models, method):
    """The column that a run's result is told of, and that --checkpoint=RUN means.

    It is the last there is; but LoAd's is its best, which looking ahead has chosen, not an average.
    """
    chosen = TITLES['load']
    return chosen if method == 'load' and chosen in models else list(models)[-1]


def by_split(results, split):
    """{column: summary} of one split, in reading order; {} where it has no pictures."""
    return {column: splits[split] for column, splits in results['models'].items()
            if split in splits}


def table(results, split='test'):
    """tables.Table of one split: per-class IoU, mIoU, pixel accuracy, gains."""
    notes = ''.join(f'; {note}' for note in notes_on_test(results)) if split == 'test' else ''
    subject = results.get('subject', list(results['models'])[-1])  # earlier versions' lack it
    columns = by_split(results, split)
    subject, control = like_with_like.chosen(columns, subject, CONTROL)
    return tables.class_table(columns, start=START, control=control, subject=subject,
                              title=f'IoU in percent, {split}, '
                              f'{results["dataset"]}, seed {results["seed"]}{notes}')


def average_told(column, found):
    """A sentence without its stop: what averaging a stage's weights came to.

    Args:
      column: of the averaged weights.
      found: from `averaged.save`.
    """
    models, after = found['models'], found['holdout_miou']
    before = found['holdout_miou_before_batch_norm']
    text = f'{column}: {models} model{"" if models == 1 else "s"} averaged'
    if 'every' in found:
        mean = (f'n = {found["constant"]:g} constant' if found['reading'] == 'constant'
                else 'their plain mean')
        text += f', every {found["every"]} steps from step {found["start"]} on, {mean}'
    if models < 2:
        text += ', the weights that it began with alone: set swa.every lower'
    if after is not None:
        text += f', hold-out mIoU {100 * after:.2f}'
        if before is not None:
            text += (f' with batch norm estimated anew, {100 * before:.2f} with the statistics of '
                     'the last weights')
    return text


def notes_on_training(results):
    """[str], sentences: how averages came about, where the control is from, rare classes."""
    subject = like_with_like.plain(results.get('subject'))
    notes = [f'{subject}: {results["about"]}.'] if results.get('about') else []
    notes += [f'{average_told(column, found)}.'
              for column, found in results.get('averaged', {}).items()]
    if results.get('control_from'):
        notes.append(f'{CONTROL} was trained by {results["control_from"]} and taken over: the same '
                     'start, batches and settings.')
    return notes + semi_supervised.labels_told(results)


def notes_on_test(results):
    """[str]: what scores on the test split do not tell by themselves; [] where they may stand.

    Args:
      results: from `scores`; those of earlier versions, which say less, will do.
    """
    total = results.get('pictures', {}).get('test', 0)
    shared = results.get('test_shares', {})
    gone = results.get('pictures_left_out', {}).get('test', 0)
    notes = [f'{shared[part]} of its {total} pictures {what}'
             for part, what in (('holdout', 'are the hold-out, which models were chosen by'),
                                ('train', 'were trained on')) if shared.get(part)]
    if gone:
        notes.append(f'{gone} damaged picture{"" if gone == 1 else "s"} of it left out')
    return notes


def panel_ids(context):
    """The same few test pictures in every panel of a run: spread evenly over the split."""
    test = context.data.test
    chosen = np.linspace(0, len(test) - 1, min(PANEL_ROWS, len(test))).astype(int)
    return [test[i] for i in chosen]


def masks(context, segmentor, pictures):
    """The class maps that a network gives of (picture, label) pairs: uint8 [h, w] each."""
    return [prediction.predict(segmentor, image, context.crop_size) for image, _ in pictures]


def panel_maker(context, segmentor):
    """For TensorBoard: function(LookAhead) -> panel of hold-out pictures at g0, g^e and g*."""
    chosen = context.data.holdout[:PANEL_ROWS]
    pictures = [context.data.records.load(image_id) for image_id in chosen]

    def make(lookahead):
        columns = {}
        for title, role in (('g0', 'g0'), ('g^e', 'end'), ('g*', 'start')):
            lookahead.store.restore(role, segmentor)
            columns[title] = masks(context, segmentor, pictures)
        return mask_grid(context, pictures, columns, chosen)

    return make


def mask_grid(context, pictures, columns, captions):
    """uint8 [H, W, 3]: a row a picture: itself, its truth, and the masks of {title: masks}."""
    rows = [panels.mask_row(image, truth, [masks[i] for masks in columns.values()])
            for i, (image, truth) in enumerate(pictures)]
    spec = context.data.spec
    return panels.panel_grid(rows, ['picture', 'truth', *columns], spec.palette,
                             spec.class_names, captions)


def final_panel(context, segmentor):
    """Test pictures at g0, the last ending, g* and the control, where the run has them."""
    chosen = panel_ids(context)
    pictures = [context.data.records.load(image_id) for image_id in chosen]
    columns = {}
    for name, title in (('stage1', 'g0'), ('end', 'last g^e'), ('best', 'g*'),
                        ('control', 'control')):
        if name == 'end':
            state = context.run.lookahead / 'state.json'
            roles = files.read_json(state)['snapshots']['roles'] if state.exists() else {}
            if 'end' not in roles:
                continue
            checkpoints.read_state(context.run.lookahead / 'snapshots' / roles['end'],
                                   network=segmentor)
        elif (context.run.checkpoints / name / networks.DESCRIPTION).exists():
            networks.load_weights(context.run.checkpoints / name, segmentor)
        else:
            continue
        columns[title] = masks(context, segmentor, pictures)
    return mask_grid(context, pictures, columns, chosen)


def report(context, segmentor, results, controller=None):
    """Writes report.html, the panels and the tables of a run.

    Args:
      context: run.context.Context.
      segmentor: scratch for the panels' models; ends with other weights.
      results: from `scores`.
      controller: LoAd's, for the thresholds in the graph, or None.
    """
    run = context.run
    panel = final_panel(context, segmentor)  # on every worker: it runs the network
    if not context.chief:
        return
    events, metrics = read_lines(run.journal_path), read_lines(run.metrics_path)
    control = run.path / 'control'
    panels.write_png(run.figures / 'panel.png', panel)
    for split in SPLITS:
        with files.atomic_file(run.figures / f'{split}.csv', 'w') as file:
            file.write(tables.to_csv(table(results, split)))
    has_control = CONTROL in results['models']
    content = reports.run_report(
        f'LoAd on {context.data.spec.name}', events, metrics,
        read_lines(control / 'journal.jsonl') if has_control else None,
        read_lines(control / 'metrics.jsonl') if has_control else None,
        holdout=by_split(results, 'holdout'), test=by_split(results, 'test'), start=START,
        control=CONTROL if has_control else None, subject=results['subject'],
        panels=[('Test pictures at the start, at the end of the last cycle, at the best model and '
                 'the control (as LoAd Figs 4 to 7). Unlabelled pixels are black.', panel)],
        beta_u=getattr(controller, 'beta_u', None), beta_l=getattr(controller, 'beta_l', None),
        configuration=run.config_path.read_text(encoding='utf-8'),
        environment=read_environment(run), **_report_notes(results))
    stage = {START: results['seconds'].get('stage1', 0.0)}
    content.wall_time = {**stage, **content.wall_time}
    if 'control' in results['seconds']:
        content.wall_time['control'] = results['seconds']['control']
    reports.write_report(run.report_path, content)


def _report_notes(results):
    """Fields of `reports.RunReport` that say what `notes_on_test` does."""
    fields = {'summary': [*(f'Test: {note}.' for note in notes_on_test(results)),
                          *notes_on_training(results)]}
    if results.get('test_shares', {}).get('holdout'):
        fields['split_notes'] = {**reports.SPLIT_NOTES, 'test': 'holds the hold-out'}
        fields['choice_note'] = (
            'LoAd chooses its peaks by the hold-out, and so does the control. Here the hold-out is '
            'part of the test split: a gain on either is partly the luck of that choice, and no '
            'split but the rest of val chose nothing.')
    return fields


def read_environment(run):
    """environment.json for reading: of earlier starts only how many there were."""
    found = files.read_json(run.environment_path)
    found['earlier starts'] = len(found.pop('earlier_starts', []))
    return found


def read_lines(path):
    """Entries of a journal; none where there is none."""
    return journals.Journal.read(path) if path.exists() else []
