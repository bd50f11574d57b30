"""The report of a method that is trained beside a control, whichever method it is.

`reporting.pages.report` draws the page; here is what every such run has to say: the measures of Luc
et al.'s Tables 1 and 2 (and Durall et al.'s Tables 2 and 3) beside the control's and the paper's,
the curves of Luc's Fig. 4 and Durall's Fig. 6, the panels of Luc's Fig. 3 and Durall's Fig. 5. A
method's own sentences, tables, figures and panels are handed in as `parts`. Where a run averages
its weights, every gain is of like against like (see `like_with_like`).
"""
from tf_advseg.reporting import curves
from tf_advseg.reporting import like_with_like, measure_tables, tables, training_curves
from tf_advseg.reporting.pages import adversarial_sentences
from tf_advseg.reporting.pages import report
from tf_advseg.reporting.paper_figures import class_curves

# (column, function of a summary -> fraction or None, whether a difference of two is a gain); σ is
# the standard deviation of BF over images, as in Luc et al.'s supplement, Table 2. The first four
# are Durall et al.'s, who call pixel accuracy overall accuracy; Zhu et al.'s (eqs 17 to 19, their
# Tables 4 to 6) are mIoU, pixel accuracy and mean class accuracy, which they call class accuracy.
MEASURES = (('mean class accuracy', lambda s: s.get('mean_class_accuracy'), True),
            ('pixel accuracy', lambda s: s.get('pixel_accuracy'), True),
            ('fwIoU', lambda s: s.get('frequency_weighted_iou'), True),
            ('mIoU', lambda s: s.get('miou'), True),
            ('BF, mean', lambda s: (s.get('boundary') or {}).get('mean'), True),
            ('BF, σ', lambda s: (s.get('boundary') or {}).get('std'), False))
CHOICE_NOTES = {
    'best': '{subject} is shown at the evaluation with the largest mIoU on the hold-out, and so is '
            'the control: a gain on the hold-out is partly the luck of that choice and not yet a '
            'gain. What counts is the test split, which chose nothing.',
    'last': 'Every model is shown as its training left it: the hold-out chose no moment. Where it '
            'chose settings (λ, learning rates), a gain on it is partly the luck of that choice. '
            'What counts is the test split, which chose nothing.'}
NO_CONTROL_NOTE = ('There is no control beside this run, trained as long on the labels alone, so '
                   'nothing here separates what the method did from what more training did.')
AVERAGED_NOTE = ('Models marked “SWA” have the average of the weights over training, as it was at '
                 'the end: no image chose them. They are compared with each other, and so are '
                 'those without the mark: averaging has gains of its own, without any method.')
RANDOM_START_NOTE = ('There was no training before the method\'s, and the start, whose head '
                     '(or all) has random weights, is no model: it is left out.')
_HOLDOUT_NOTES = {'best': 'models were chosen by it', 'last': 'chose no moment'}


def adversarial_report(title, results, metrics, stage, class_names, control='control',
                       start='Stage 1', control_column='control (CE)', subject=None, keep='best',
                       paper=None, palette=None, steps_per_epoch=None, masks=None,
                       probabilities=None, masks_over_time=None, parts=(), paper_row=None,
                       trains=True, noise=adversarial_sentences.NOISE, **fields):
    """A RunReport: tables, sentences, curves, panels, wall time, and the method's own parts.

    Args:
      title: the page's heading.
      results: the content of results.json ('models': {column: {split: summary}}, 'subject',
        'seconds': {phase: seconds}), or None while the run is under way. Summaries may have
        'mean_class_accuracy', 'frequency_weighted_iou' and 'boundary' ({'mean', 'std'}), too;
        splits are 'holdout' and 'test'. Where 'starts_random' is true the start is left out.
      metrics: lines of metrics.jsonl, the control's among them.
      stage: the method's stage, such as 'luc'.
      class_names: C names.
      control: the control's stage, or None.
      start, control_column, subject: columns of `results`: the start, the control and the model
        whose gains are given; None as subject takes that of `results`, else `stage`. Columns of
        averaged weights are called like those of the plain ones and ' + SWA'.
      keep: 'best' where the hold-out chose among evaluations, 'last' where nothing was chosen.
      paper: {row name: summary} of the paper's figures for the table of measures, baseline first,
        or None.
      paper_row: the row of `paper` that is this method; None for the last.
      palette: C colours for the curves by class, as `class_curves` takes them.
      steps_per_epoch: puts epochs on their axes.
      masks, masks_over_time: uint8 [H, W, 3] (panels.panel_grid, training_masks), or None.
      parts: objects with `kind` ('sentence', 'table', 'figure' or 'panel'), `content` and
        `caption`, see methods/recipe.py: the method's own, behind those of every method.
      trains: False for Stage 1 alone, without a method: no control is missed then.
      probabilities: {image: one of probability_panels}, or None.
      noise: how far another seed alone moves one run's mIoU, as a fraction; None: nobody has tried.
      **fields: further fields of RunReport (configuration, environment, …), which win over those
        made here; sentences given as `summary` are put in front.

    Returns:
      report.RunReport, for report.write_report.

    Raises:
      ValueError: another `keep`.
      TypeError: a field that RunReport has not.
    """
    if keep not in CHOICE_NOTES:
        raise ValueError(f'keep is {keep!r}, expected one of {", ".join(CHOICE_NOTES)}')
    results = results or {}
    subject = subject or results.get('subject') or str(stage)
    names = like_with_like.plain(subject), control_column  # of the two stages
    made = report.RunReport(title=title, no_control_note=NO_CONTROL_NOTE if trains else '',
                            split_notes={'hold-out': _HOLDOUT_NOTES[keep], 'test': 'chose nothing'},
                            wall_time=dict(results.get('seconds') or {}))
    _set_models(made, results, metrics, start, subject, control_column)
    made.choice_note = _choice_note(keep, names, made.test)
    own_parts = {kind: [part for part in parts if part.kind == kind]
                 for kind in ('sentence', 'table', 'figure', 'panel')}
    structure = measure_tables.structure_table(made.test)
    made.measures = [*_measure_tables(made, paper, paper_row), *([structure] if structure else []),
                     *(part.content for part in own_parts['table'])]
    made.figures = [*_figures(metrics, stage, control, class_names, palette, steps_per_epoch, names,
                              any(map(like_with_like.is_averaged, made.test))),
                    *((part.caption, part.content) for part in own_parts['figure'])]
    made.panels = [*_panels(masks, masks_over_time),
                   *((part.caption, part.content) for part in own_parts['panel']),
                   *_probability_panels(probabilities)]
    own = list(fields.pop('summary', ()))
    if results.get('starts_random'):
        own.append(RANDOM_START_NOTE)
    report.set_fields(made, fields)
    made.summary = [*own, *adversarial_sentences.summary_sentences(
        made, metrics, stage, control, names, noise if trains else None,
        [part.content for part in own_parts['sentence']], trains)]
    return made


def _set_models(made, results, metrics, start, subject, control_column):
    """The report's state, its columns, and which of them are compared."""
    models = dict(results.get('models') or {})
    made.state = 'finished' if models else 'running' if metrics else 'not started'
    if results.get('starts_random'):
        models.pop(start, None)
    made.start = start
    made.subject, made.control = like_with_like.chosen(
        models, subject, control_column if models.get(control_column) else None)
    made.holdout, made.test = _split(models, 'holdout'), _split(models, 'test')


def _choice_note(keep, names, models):
    """What the hold-out chose, and what is to be known of averaged weights where there are any."""
    notes = [CHOICE_NOTES[keep].format(subject=names[0])]
    if any(map(like_with_like.is_averaged, models)):
        notes.append(AVERAGED_NOTE)
    return ' '.join(notes)


def _split(models, split):
    """{column: summary or None} of one split."""
    return {column: (splits or {}).get(split) for column, splits in models.items()}


def _measure_tables(made, paper, paper_row):
    """Tables of what the splits have; the paper's figures stand by the last one, the test split."""
    splits = {name: columns for name, columns in (('hold-out', made.holdout), ('test', made.test))
              if any(columns.values())}
    found = [score_table(columns, made.subject, made.control, f'Measures, {name}',
                         paper if name == list(splits)[-1] else None, paper_row)
             for name, columns in splits.items()]
    if any((summary or {}).get('class_accuracy') for summary in made.test.values()):
        found.append(accuracy_table(made.test, made.subject, made.control))
    return found


def score_table(columns, subject, control=None, title='', paper=None, paper_row=None):
    """Models in rows, Luc et al.'s measures in columns (their Table 1, and BF of Table 2).

    Args:
      columns: {model: summary or None}.
      subject, control: models whose difference is the row 'gain over'; no control, no such row.
        With averaged weights there is a row for each kind, and for averaging itself.
      title: heading of the table.
      paper: {row name: summary}, put below with the gain of `paper_row` over the first, or None.
      paper_row: name of a row; None for the last.

    Returns:
      tables.Table in percent and percentage points; without a column that no model has.
    """
    columns = {name: s for name, s in columns.items() if s}
    compared = (like_with_like.pairs(columns, subject, control)
                + like_with_like.averaging(columns, subject, control))
    groups = [(columns, subject, compared)]
    if paper:
        own = paper_row or list(paper)[-1]
        groups.append((paper, own, [(own, list(paper)[0])]))
    shown = [measure for measure in MEASURES
             if any(measure[1](s) is not None for group, _, _ in groups for s in group.values())]
    rows, strong = [], []
    for group, strongest, pairs in groups:
        for name, summary in group.items():
            if name == strongest:
                strong.append(len(rows))
            rows.append((tables.Cell(name), *(_percent(get(summary)) for _, get, _ in shown)))
        for last, first in pairs:
            if last != first:
                of = f'{last}: ' if len(pairs) > 1 else ''
                rows.append((tables.Cell(f'{of}gain over {first}'),
                             *(_difference(get(group[last]), get(group[first]) if gain else None)
                               for _, get, gain in shown)))
    return tables.Table(('model', *(name for name, _, _ in shown)), tuple(rows), title,
                        strong=tuple(strong))


def accuracy_table(columns, subject, control=None, title='Accuracy by class, test'):
    """Classes in rows, models in columns; gains of the subject over the control.

    Args:
      columns: {model: summary with class_accuracy {class: fraction or None}, or None}.
      subject, control, title: see `score_table`.

    Returns:
      tables.Table.
    """
    columns = {name: (s or {}).get('class_accuracy') for name, s in columns.items()}
    columns = {name: found for name, found in columns.items() if found}
    classes = list(dict.fromkeys(name for found in columns.values() for name in found))
    gain = subject in columns and control in columns and subject != control
    rows = tuple((tables.Cell(name), *(_percent(found.get(name)) for found in columns.values()),
                  *([_difference(columns[subject].get(name), columns[control].get(name))]
                    if gain else []))
                 for name in classes)
    return tables.Table(('class', *columns, *([f'vs {control}'] if gain else [])), rows, title)


def _percent(fraction):
    return tables.Cell(100.0 * fraction if curves.is_finite(fraction) else None)


def _difference(a, b):
    finite = curves.is_finite(a) and curves.is_finite(b)
    return tables.Cell(100.0 * (a - b) if finite else None, gain=True)


def _figures(metrics, stage, control, class_names, palette, steps_per_epoch, names,
             averaged):
    """The figures that have something to show, with captions."""
    stages = [name for name in (stage, control) if name is not None]
    own = [m for m in metrics if m.get('stage') in stages]
    figures = []
    if any(class_curves.evaluations(own, name, split) for name in stages
           for split in class_curves.SPLITS):
        axes = {'control': control, 'steps_per_epoch': steps_per_epoch, 'names': names}
        figures += [
            ('mIoU, mean class accuracy and pixel accuracy over training, on training images and '
             'on the hold-out: what the method does against overfitting shows as a smaller gap '
             'between the two colours.',
             class_curves.mean_curves(own, stage, **axes)),
            ('Accuracy of each class over training (as Luc et al., Fig. 4): solid the method, dashed '
             'its control.',
             class_curves.class_accuracy_curves(own, stage, class_names, palette=palette, **axes))]
        lines = class_curves.has_averaged(own, stages)
        if lines or averaged:
            figures.insert(0, (
                'mIoU on the hold-out over training (as Durall et al., Fig. 6)' + (
                    ', of the weights as they are at each step (pale) and of their average so far '
                    '(dark, “SWA”).' if lines else '. Averaged weights have no line: for each '
                    'point batch norm would have to be estimated anew.'),
                class_curves.miou_curves(own, stage, **axes)))
    learned = adversarial_sentences.discriminator_lines(metrics, stage)
    if len(learned) >= adversarial_sentences.FEWEST:
        turns = '' if adversarial_sentences.is_joint(metrics, stage) else (
            '; tinted, where shown, are phases in which the discriminator alone learns')
        figures.append(('The discriminator over the steps of both networks: its loss, and how '
                        'often it is right; 50 % is guessing. Points are batches, lines their '
                        f'running mean{turns}.',
                        training_curves.discriminator_steps_curve(own, stage)))
    return figures + _loss_figures(metrics, own, stage, control)


def _loss_figures(metrics, own, stage, control):
    """Losses and gradients of the stage and its control (`own` lines) and of those before."""
    figures = []
    if any('loss/ce' in m for m in own):
        figures.append(('The segmentor\'s losses: cross-entropy of the method and of its control, '
                        'and the further terms, weights left out.',
                        training_curves.segmentor_loss_curve(own, stage, control)))
    if any(key.startswith('grad_ratio/') for m in own for key in m):
        several = len({key for m in own for key in m if key.startswith('grad_ratio/')}) > 1
        whose, left, right = ('gradients of the further terms', '', '') if several else (
            'adversarial gradient', 'blue, ', 'brown, ')
        figures.append((f'Norm of the {whose} over the cross-entropy\'s, λ left out ({left}left), '
                        'and the cosine of the angle between them where it is logged '
                        f'({right}right: 1 is the same direction, 0 none in common, −1 against '
                        'each other).',
                        training_curves.gradient_ratio_curve(own)))
    before = [m for m in metrics if m.get('event') == 'stage' and 'loss/ce' in m
              and m.get('stage') not in (stage, control)]
    if before:
        figures.append(('Cross-entropy in the stages before.',
                        training_curves.stage_loss_curve(before)))
    return figures


def _panels(masks, masks_over_time):
    """(caption, image) pairs of what there is."""
    made = []
    if masks is not None:
        made.append(('Test images, their truth and what each model says. Unlabelled pixels are '
                     'black.', masks))
    if masks_over_time is not None:
        made.append(('The same at several steps of training (as Durall et al., Fig. 5), a row a '
                     'network: the weights as they were, not averaged.', masks_over_time))
    return made


def _probability_panels(probabilities):
    """(caption, image) pairs, one a test image."""
    return [(f'{name}: class probabilities, a row a model (as Luc et al., Fig. 3), black 0 and '
             'white 1; below, the label maps superimposed on the image.', panel)
            for name, panel in (probabilities or {}).items()]
