"""What LoAd's report and dry run say: its page, its panels, its expected time."""
import numpy as np

from tf_advseg.core import files
from tf_advseg.core import journal as journals
from tf_advseg.lookahead import cycle_masks
from tf_advseg.lookahead import head_only
from tf_advseg.methods import recipe
from tf_advseg.models import segmentor as segmentors
from tf_advseg.reporting import measure_tables
from tf_advseg.reporting.pages import report as reports
from tf_advseg.run import costs
from tf_advseg.run import shown_images
from tf_advseg.training import checkpoints

_SHARED_CHOICE = ('LoAd chooses its peaks by the hold-out, and so does the control. Here the '
                  'hold-out is part of the test split: a gain on either is partly the luck of that '
                  'choice, and no split but the rest of val chose nothing.')


def panel_maker(context, segmentor):
    """For TensorBoard: function(LookAhead) -> panel of hold-out images at g0, g^e and g*.

    It keeps their class maps on disk as well, see `cycle_masks`.
    """
    chosen = cycle_masks.shown(context)
    images = shown_images.load(context, chosen)

    def make(lookahead):
        columns = {}
        for title, role in (('g0', 'g0'), ('g^e', 'end'), ('g*', 'start')):
            lookahead.store.restore(role, segmentor)
            columns[title] = shown_images.masks(context, segmentor, images)
        if context.chief:
            cycle, titles = lookahead.controller.cycles - 1, {'end': 'g^e', 'start': 'g*'}
            kept = {'g0': columns['g0']} if not cycle else {}
            kept.update({label: columns[titles[role]]
                         for label, role in lookahead.state.pending['roles'].items()})
            cycle_masks.keep(context.run.lookahead, cycle, kept)
        return shown_images.mask_grid(context, images, columns, chosen)

    return make


def report(inputs, segmentor, results, fields):
    """See `recipe.Recipe.report`: convergence, buffer and rewinds from LoAd's own journal."""
    context = inputs.context
    panel = _final_panel(inputs, segmentor)  # on every worker: it runs the network
    if not context.chief:
        return None
    run, control = context.run, context.run.path / 'control'
    has_control = inputs.control is not None
    own_control = has_control and (control / 'journal.jsonl').exists()
    state = run.lookahead / 'state.json'
    rules = files.read_json(state)['controller'] if state.exists() else {}
    made = reports.run_report(
        f'LoAd on {context.data.spec.name}', _lines(run.journal_path), inputs.metrics,
        _lines(control / 'journal.jsonl') if own_control else None,
        _lines(control / 'metrics.jsonl') if own_control else None,
        holdout=_split(results, 'holdout'), test=_split(results, 'test'), start='Stage 1',
        control='control (CE)' if has_control else None, subject=results['subject'],
        panels=[('Test images at the start, at the end of the last cycle, at the best model and '
                 'the control (as LoAd Figs 4 and 5). Unlabelled pixels are black.', panel),
                *_cycle_panels(context)],
        beta_u=rules.get('beta_u'), beta_l=rules.get('beta_l'), **fields,
        **_shared_notes(results))
    structure = measure_tables.structure_table(made.test or {})
    made.measures = [*made.measures, *([structure] if structure else [])]
    events = _lines(run.journal_path)
    made.summary = [*made.summary, *_screening_sentences(events),
                    *wall_time_sentences(results['seconds'], events, inputs.metrics)]
    made.wall_time = {'Stage 1': results['seconds'].get('stage1', 0.0), **made.wall_time}
    if 'control' in results['seconds']:
        made.wall_time['control'] = results['seconds']['control']
    return made


def _cycle_panels(context):
    """[(caption, panel)] of hold-out images through the cycles; [] where nothing was kept."""
    found = cycle_masks.panel(context, context.run.lookahead)
    if found is None:
        return []
    return [('Hold-out images at the endings (e) and peaks (g) of the cycles (as LoAd Figs 6 and '
             '7). Unlabelled pixels are black.', found)]


def wall_time_sentences(seconds, events, metrics):
    """What LoAd cost beside Stage 1 and beside its control, as sentences; [] where nobody knows.

    Args:
      seconds: {'stage1', 'load', 'control': seconds}, as in results.json.
      events, metrics: lines of journal.jsonl and metrics.jsonl.
    """
    first, own, control = (seconds.get(name) for name in ('stage1', 'load', 'control'))
    sentences = []
    if first and own:
        text = (f'Wall time: Stage 1 and LoAd together took {(first + own) / first:.2f} times as '
                'long as Stage 1')
        best = _seconds_to_best(own, events, metrics)
        if best is not None:
            text += (f', and {(first + best) / first:.2f} times to the best model (the paper, on a '
                     'P100: 2.69 times)')
        sentences.append(f'{text}.')
    if own and control:
        sentences.append(f'LoAd took {own / control:.2f} times as long as its control.')
    return sentences


def _seconds_to_best(own, events, metrics):
    """Seconds that LoAd took up to its best model: all of its own less those behind that model.

    So whatever comes before the first propagation counts, a frozen backbone's maps as well. None
    where the best is the start itself, where LoAd is not finished, or was stopped after the best.
    """
    lines = [line for line in metrics if line['event'] == 'propagation']
    finished = next((event for event in events if event['event'] == 'finished'), {})
    best = next((line for line in lines if line['miou'] == finished.get('miou')), None)
    if best is None or finished.get('best') == 'g0':
        return None
    stops = [event['time'] for event in events if event['event'] == 'resume']
    if any(best['time'] < stop < finished['time'] for stop in stops):
        return None
    return own - (finished['time'] - best['time'])


def _screening_sentences(events):
    """What the screening of the first discriminator found, as a sentence; [] without one."""
    found = [event for event in events if event['event'] == 'screening']
    if not found:
        return []
    line = found[-1]
    text = (f'Screening at g0: the adversarial gradients of {line["images"]} images have a signal '
            f'of {line["signal"]:.3f}{_ends(line["signal_interval"])} (0: nothing in common)')
    if line['points_nowhere']:
        text += ': the adversary points nowhere'
    if line['blind']:
        loss = '' if line.get('log_loss') is None else f', binary CE {line["log_loss"]:.3f},'
        text += (f'; the discriminator is right in {100 * line["accuracy"]:.1f} % of its hold-out'
                 f'{loss} and has learnt next to nothing')
    if line['cosine'] is not None:
        text += (f'; the cosine of their mean with the CE gradient of images that chose nothing is '
                 f'{line["cosine"]:+.3f}{_ends(line["cosine_interval"])}')
    return [f'{text}.']


def _ends(interval):
    """' [low, high]', or '' where there is no interval."""
    return '' if interval is None else f' [{interval[0]:.3f}, {interval[1]:.3f}]'


def _shared_notes(results):
    """Fields of RunReport where the hold-out, which chose the peaks, is part of the test split."""
    if not results.get('test_shares', {}).get('holdout'):
        return {}
    return {'split_notes': {**reports.SPLIT_NOTES, 'test': 'holds the hold-out'},
            'choice_note': _SHARED_CHOICE}


def _final_panel(inputs, segmentor):
    """Test images at g0, the last ending, g* and the control, where the run has them."""
    context = inputs.context
    chosen = shown_images.test_ids(context)
    images = shown_images.load(context, chosen)
    columns = {}
    for name, title in (('stage1', 'g0'), ('end', 'last g^e'), ('best', 'g*'),
                        ('control', 'control')):
        if name == 'end':
            state = context.run.lookahead / 'state.json'
            roles = files.read_json(state)['snapshots']['roles'] if state.exists() else {}
            if 'end' in roles:
                checkpoints.read_state(context.run.lookahead / 'snapshots' / roles['end'],
                                       network=segmentor)
                columns[title] = shown_images.masks(context, segmentor, images)
        elif name in inputs.masks:
            columns[title] = inputs.masks[name]
    return shown_images.mask_grid(context, images, columns, chosen)


def _split(results, split):
    """{column: summary} of one split."""
    return {column: splits[split] for column, splits in results['models'].items()
            if split in splits}


def _lines(path):
    """Entries of a journal; none where there is none."""
    return journals.Journal.read(path) if path.exists() else []


# --- what a dry run prints ---------------------------------------------------------------------

def cost(context, segmentor, loop):
    """The `recipe.Cost` of LoAd: of one cycle, since what follows depends on the peaks found.

    Args:
      context: run.context.Context.
      segmentor: the run's.
      loop: LookAhead, built.
    """
    size = loop.buffer.estimate_bytes(len(context.data.train) + len(context.data.holdout),
                                      loop.data.map_shape)
    total, _ = segmentors.parameter_count(loop.method.discriminator)
    propagation, epoch = _seconds(context, loop)
    cycle = loop.controller.patience * propagation + loop.settings.min_epochs * epoch
    cycles = loop.controller.max_total_cycles or loop.controller.max_cycles
    seconds = None if cycles is None else cycles * cycle
    if loop.controller.max_propagations is not None:
        most = loop.controller.max_propagations
        cycles = max(1, most / loop.controller.patience)
        seconds = most * propagation + cycles * loop.settings.min_epochs * epoch
    return recipe.Cost('LoAd', (
        f'{propagation:.1f} s a propagation and {epoch / 60:.1f} min an epoch of the discriminator '
        f'({total:,} parameters) with a full buffer, so {cycle / 60:.0f} min or more a cycle; map '
        f'buffer: at most {size.buffer / 1e6:.1f} MB, {size.on_disk / 1e6:.1f} MB while a slot is '
        'replaced (`tools/benchmark.py load` measures)'), seconds,
        6 * segmentors.parameter_count(segmentor)[0] + 3 * total)


def control_cost(context, segmentor, loop):
    """The `recipe.Cost` of LoAd's control: its propagations without a discriminator."""
    settings = loop.settings
    forward = _image_seconds(context, loop)
    propagation = (loop.method.accumulate.passes * settings.batch_size * forward
                   * settings.steps_per_propagation(len(context.data.train))
                   + len(context.data.holdout) * forward)
    most = loop.controller.max_propagations
    if most is None:
        cycles = loop.controller.max_total_cycles or loop.controller.max_cycles
        most = cycles and cycles * loop.controller.patience
    return recipe.Cost('control', f'{propagation:.1f} s a propagation, as many as LoAd has taken',
                       most and most * propagation,
                       4 * segmentors.parameter_count(segmentor)[0])


def _image_seconds(context, loop):
    """Seconds of the segmentor's forward pass on one image; of its head's, where what the backbone
    makes of the images is kept."""
    segmentor = loop.method.segmentor
    images = np.zeros((loop.settings.batch_size, *context.crop_size, 3), np.float32)
    if loop.data.known is None:
        return costs.seconds_of(segmentor, images) / loop.settings.batch_size
    return costs.seconds_of(segmentor.head, head_only.maps_of(segmentor, images)
                            ) / loop.settings.batch_size


def _seconds(context, loop):
    """(seconds of a propagation, of an epoch of the discriminator); a gradient costs about three
    forward passes."""
    settings, method = loop.settings, loop.method
    further = 0 if method.features is None else method.features.channels
    inputs = np.zeros((settings.discriminator_batch_size, *method.encoding.points,
                       method.encoding.channels + further), np.float32)
    image = _image_seconds(context, loop)
    judged = (costs.seconds_of(method.discriminator, inputs) / settings.discriminator_batch_size)
    propagation = (settings.batch_size * (method.accumulate.passes * image + 3 * judged)
                   * settings.steps_per_propagation(len(context.data.train))
                   + len(context.data.holdout) * image)
    items = len(context.data.train) * (1 + loop.buffer.policy.max_slots)
    return propagation, 3 * items * judged
