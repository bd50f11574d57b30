"""What the report of a run with a control says in sentences: steps, gains, overfitting.

The two networks take turns, or one step moves both: then the lines of the segmentor's steps are
of the discriminator, too. Or no discriminator learns beside the segmentor.
"""
import math

from tf_advseg.reporting import curves, like_with_like
from tf_advseg.reporting.pages import report
from tf_advseg.reporting.paper_figures import class_curves

FEWEST = 2  # logged steps of the discriminator, to draw a line through them
# How far a new seed of the head alone moved one run's mIoU: a trial on Stanford Background (400
# labelled images at most), fine-tuned from VOC weights. From scratch it may be more.
NOISE = 0.014


def summary_sentences(made, metrics, stage, control, names, noise=NOISE, own=(), trains=True):
    """What happened, in sentences: steps, gains and their worth, overfitting, discriminator.

    Args:
      made: a RunReport with its summaries.
      metrics, stage, control: see `adversarial_report`.
      names: what the two stages are called.
      noise, trains: see `adversarial_report`.
      own: the method's own sentences.

    Returns:
      list of sentences; what is not known yet is left out.
    """
    steps = _step_sentences(metrics, stage, control, names, made.state) if trains else []
    return [*steps, *own, *report.gain_sentences(made),
            *noise_sentences(made, noise),
            *_gap_sentences(metrics, stage, control, names),
            *_discriminator_sentences(metrics, stage)]


def steps_taken(metrics, stage):
    """(segmentor's steps, discriminator's steps) of a stage, as far as they are logged."""
    lines = [m for m in metrics if m.get('stage') == stage]
    own = max([m['segmentor_step'] for m in lines if 'segmentor_step' in m], default=0)
    if is_joint(metrics, stage):
        return own, max(m['segmentor_step'] for m in discriminator_lines(metrics, stage))
    return own, max([m['step'] for m in lines if 'step' in m] + [own]) - own


def is_joint(metrics, stage):
    """Whether a stage's steps move both networks at once."""
    return any('segmentor_step' in m for m in discriminator_lines(metrics, stage))


def _step_sentences(metrics, stage, control, names, state):
    own, discriminator = steps_taken(metrics, stage)
    other, _ = steps_taken(metrics, control) if control is not None else (0, 0)
    if not own and not discriminator:
        return [f'{names[1]}: {report.count(other, "step")} of the segmentor, on the '
                'labels alone.'
                if other and state == 'finished'
                else 'No step of the method\'s training is logged yet.']
    taken = f'{names[0]}: {report.count(own, "step")} of the segmentor'
    if discriminator:
        taken += f' and {discriminator} of the discriminator'
    if is_joint(metrics, stage):
        taken = f'{names[0]}: {report.count(own, "step")}, each of both networks at once'
    if not other:
        return [taken + '.']
    sentences = [f'{taken}; {names[1]}: {other} of the segmentor.']
    if own != other and state == 'finished':
        sentences.append('The two have not taken equally many steps of the segmentor, so their '
                         'difference is not the method\'s alone.')
    return sentences


def noise_sentences(made, noise=NOISE):
    """What the difference from the control is worth, as a list of sentences.

    Args:
      made: a RunReport with summaries of the test split.
      noise: how far another seed alone moves the mIoU of one run; two runs differ by √2 of it.

    Returns:
      [] without a control's mIoU on the test split. Where averaged weights are beside the plain
      ones, the difference of each kind is weighed.
    """
    mious = {name: summary['miou'] for name, summary in (made.test or {}).items()
             if summary and curves.is_finite(summary.get('miou'))}
    pairs = like_with_like.pairs(mious, made.subject, made.control)
    if not pairs:
        return []
    if noise is None:
        gains = '; '.join(f'{report.points(mious[a] - mious[b])} points of {a} over {b}'
                          for a, b in pairs)
        return [f'One run is one draw ({gains}): how far another seed alone moves it nobody has '
                'tried on these images. Only several seeds of both, and an interval over them, '
                'show a gain (tools/sweep.py runs them).']
    apart, weighed = math.sqrt(2.0) * noise, []
    for number, (subject, control) in enumerate(pairs):
        gain = mious[subject] - mious[control]
        said = ('lies within that and says nothing' if abs(gain) <= apart else
                'is larger, and still that of a single pair')
        head = f'that of {subject} from' if number else 'The difference from'
        weighed.append(f'{head} {control} ({report.points(gain)} points) {said}')
    return [f'Another seed alone moves one run by about {100 * noise:.1f} points of mIoU (as far '
            f'as a trial on Stanford Background showed), so two runs lie about {100 * apart:.1f} '
            f'apart without any reason. {"; ".join(weighed)}: only several seeds of both, and an '
            'interval over them, show a gain (tools/sweep.py runs them).']


def _gap_sentences(metrics, stage, control, names):
    """Train minus hold-out of both at the last step that both were evaluated at."""
    stages = [name for name in (stage, control) if name is not None]
    steps = {name: set.intersection(*({line['segmentor_step'] for line in
                                       class_curves.evaluations(metrics, name, split)}
                                      for split in class_curves.SPLITS)) for name in stages}
    labels = {name: label for name, label in zip((stage, control), names) if steps.get(name)}
    common = set.intersection(*(steps[name] for name in labels)) if labels else set()
    if not common:
        return []
    at = max(common)
    gaps = {label: class_curves.gaps(metrics, name, at) for name, label in labels.items()}
    parts = []
    for measure, title in class_curves.MEASURES.items():
        values = [f'{report.points(gap[measure])} with {label}' for label, gap in gaps.items()
                  if measure in gap]
        if values:
            parts.append(f'{title} {", ".join(values)}')
    return [f'Overfitting, as train minus hold-out in points after {at} steps of the segmentor: '
            f'{"; ".join(parts)}.'] if parts else []


def _discriminator_sentences(metrics, stage):
    """How often the discriminator was right in the last tenth of its logged steps, if it learnt."""
    lines, sentences = discriminator_lines(metrics, stage), []
    taken = steps_taken(metrics, stage)[1]
    if taken and len(lines) < FEWEST:
        sentences = ['There is no chart of the discriminator: of its '
                     f'{report.count(taken, "step")} the log has {len(lines)}.']
    found = discriminator_accuracy(lines)
    if found is None:
        return sentences
    return [*sentences,
            f'In the end the discriminator took {100 * found["real"]:.0f} % of the truths and '
            f'{100 * found["fake"]:.0f} % of the segmentor\'s maps for what they are; guessing '
            'makes the two add up to 100 %.']


def discriminator_accuracy(lines):
    """Which shares of truths and of predictions a discriminator knew, in the last tenth of lines.

    Args:
      lines: [dict] with 'disc/acc_real' and 'disc/acc_fake' in 0..1; those without are left out.

    Returns:
      {'real', 'fake': mean share in 0..1}; None without a line.
    """
    names = {kind: f'disc/acc_{kind}' for kind in ('real', 'fake')}
    lines = [m for m in lines if all(curves.is_finite(m.get(name)) for name in names.values())]
    lines = lines[-max(1, len(lines) // 10):]
    return {kind: sum(m[name] for m in lines) / len(lines)
            for kind, name in names.items()} if lines else None


def discriminator_lines(metrics, stage):
    """The lines of steps that move the discriminator."""
    return [m for m in metrics if m.get('event') == 'stage' and m.get('stage') == stage
            and curves.is_finite(m.get('loss/disc'))]
