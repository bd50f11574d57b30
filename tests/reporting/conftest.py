"""A made-up run: the story of LoAd's Fig. 1 with curves between its marks."""
import numpy as np
import pytest


def _curve(generator, first, last, count):
    line = np.linspace(first, last, count + 1)[1:]
    line[:-1] += generator.normal(0, 0.003, count - 1)
    return line


class MadeUpRun:
    """Events and metrics as the orchestrator writes them (Fig. 1: six cycles, two peaks)."""

    def __init__(self, control=False, seed=0, finished=True):
        generator = np.random.default_rng(seed)
        self.events = [{'event': 'start', 'time': 0.0, 'budget_step': 0, 'miou': 0.66,
                        'label': 'g0'}]
        self.metrics = [{'event': 'stage', 'stage': name, 'step': step,
                         'loss/ce': 2.0 / (1 + step / 20) + float(generator.normal(0, 0.05))}
                        for name in ('stage1_weighted', 'stage1') for step in range(0, 100, 2)]
        self.step, self.generator = 0, generator
        if control:
            self._control()
            return
        plan = [(0, 'e00', 0.605, None, ['g0', 'e00']),
                (1, 'e01', 0.63, ('g1', 0.69), ['g1', 'e01']),
                (2, 'e10', 0.637, None, ['g1', 'e01', 'e10']),
                (3, 'e11', 0.66, ('g2', 0.715), ['g2', 'e11']),
                (4, 'e20', 0.66, None, ['g2', 'e11', 'e20']),
                (5, 'e21', 0.67, None, ['g2', 'e20', 'e21'])]
        at = ('g0', 0.66)
        for cycle, label, miou, peak, slots in plan:
            self._retrain(cycle, len(slots))
            at = self._cycle(cycle, label, miou, peak, slots, at)
        if finished:
            self.events.append({'event': 'finished', 'reason': 'max_cycles', 'best': 'g2',
                                'miou': 0.715, 'propagations': self.step,
                                'seconds': {'generator step': 410.0, 'hold-out evaluation': 120.0,
                                            'map generation': 64.0,
                                            'discriminator training': 300.0, 'the rest': 9.5}})

    def _walk(self, cycle, values):
        for number, value in enumerate(values):
            self.step += 1
            line = {'event': 'propagation', 'budget_step': self.step, 'cycle': cycle,
                    'miou': float(value), 'loss/ce': 0.4, 'loss/adv': 1.1}
            if number % 5 == 0:
                line['grad_ratio/adv_ce'] = float(np.exp(self.generator.normal(0, 0.7)))
                line['grad_cosine/adv_ce'] = float(self.generator.normal(0, 0.1))
            self.metrics.append(line)

    def _cycle(self, cycle, label, miou, peak, slots, at):
        if peak:
            self._walk(cycle, _curve(self.generator, at[1], peak[1], 14))
            for name, value, back in ((peak[0], peak[1] - 0.01, 4), (*peak, 0)):
                self.events.append({'event': 'peak', 'budget_step': self.step - back,
                                    'cycle': cycle, 'label': name, 'miou': value})
            self._walk(cycle, _curve(self.generator, peak[1], miou, 11))
            at = peak
        else:
            self._walk(cycle, _curve(self.generator, at[1], miou, 20))
        common = {'budget_step': self.step, 'cycle': cycle}
        self.events += [
            {'event': 'end', **common, 'label': label, 'miou': miou, 'reason': 'lower_bound'},
            {'event': 'rewind', **common, 'to': at[0], 'miou': at[1]},
            {'event': 'aggregate', 'cycle': cycle, 'slots': slots, 'bytes': 2_900_000}]
        return at

    def _retrain(self, cycle, sets):
        for epoch in range(5):
            self.metrics.append({'event': 'discriminator', 'cycle': cycle, 'epoch': epoch,
                                 'disc/acc_real': 0.5 + 0.09 * epoch,
                                 'disc/acc_fake': 0.95 - 0.02 * epoch})
        self.events.append({'event': 'retrain', 'cycle': cycle, 'epochs': 5, 'best_epoch': 3,
                            'disc/accuracy': 0.8, 'disc/acc_real': 0.77, 'disc/acc_fake': 0.89,
                            'seconds': 31.0})

    def _control(self):
        self._walk(0, _curve(self.generator, 0.66, 0.683, 60))
        self.events.append({'event': 'peak', 'budget_step': 60, 'cycle': 0, 'label': 'g1',
                            'miou': 0.683})
        self._walk(0, _curve(self.generator, 0.683, 0.67, 50))
        self.events.append({'event': 'end', 'budget_step': 110, 'cycle': 0, 'label': 'e00',
                            'miou': 0.67, 'reason': 'patience'})


def summary(miou, names=('sky', 'ground', 'water'), spread=0.2):
    """A summary as evaluation.metrics.summary gives it."""
    values = np.linspace(miou - spread, miou + spread, len(names))
    return {'class_iou': dict(zip(names, map(float, values))), 'miou': miou,
            'pixel_accuracy': min(1.0, miou + 0.15)}


@pytest.fixture(scope='session')
def run():
    return MadeUpRun()


@pytest.fixture(scope='session')
def control():
    return MadeUpRun(control=True, seed=1)


@pytest.fixture
def make_run():
    return MadeUpRun


@pytest.fixture(scope='session')
def make_summary():
    return summary


def evaluation_lines(stage, overfitting, num_classes=3, steps=(0, 100, 200)):
    """Lines of a stage's evaluations: train rises by `overfitting` above the hold-out."""
    lines = []
    for step in steps:
        for split, sign in (('train', 0.5), ('holdout', -0.5)):
            accuracy = 0.5 + step / 1000 + sign * overfitting * step / max(steps)
            by_class = [accuracy + 0.02 * (number - (num_classes - 1) / 2)
                        for number in range(num_classes)]
            lines.append({'event': 'evaluation', 'stage': stage, 'step': 2 * step,
                          'segmentor_step': step, 'split': split, 'miou': accuracy - 0.1,
                          'pixel_accuracy': accuracy + 0.1, 'mean_class_accuracy': accuracy,
                          'class_accuracy': by_class, 'class_iou': by_class})
    return lines


def alternating_lines(stage='luc', every=50, total=400, log_every=10):
    """What training/loop logs of `total` steps in blocks: the discriminator's first."""
    lines, done = [], {True: 0, False: 0}
    for step in range(total):
        own = step // every % 2 == 1
        done[own] += 1
        if done[own] % log_every:
            continue
        line = {'event': 'stage', 'stage': stage, 'step': step + 1}
        if own:
            line.update({'segmentor_step': done[own], 'loss/ce': 1.0, 'loss/adv': 0.7,
                         'disc/fooled': 0.4})
            lines.append({'event': 'gradients', 'stage': stage, 'segmentor_step': done[own],
                          'grad_ratio/adv_ce': 0.5, 'grad_cosine/adv_ce': -0.1})
        else:
            line.update({'loss/disc': 1.2, 'disc/acc_real': 0.7, 'disc/acc_fake': 0.6})
        lines.append(line)
    return lines


def redrawing_lines(steps=100, every=10, critic=1):
    """What a run of Zhu et al. logs: a GAN, the segmentor with it frozen, and the control.

    The critic takes `critic` steps for one of the generator, the last of them together with it.
    """
    lines = []
    for step in range(every, steps + 1, every):
        judged = {'loss/disc': -0.8, 'disc/real': 0.4, 'disc/fake': -0.4}
        gan = {'event': 'stage', 'stage': 'gan', 'step': critic * step}
        if critic > 1:
            lines.append({**gan, 'step': critic * step - 1,
                          'discriminator_step': (critic - 1) * step, **judged})
        lines.append({**gan, 'generator_step': step, 'loss/content': 20.0 / step,
                      'loss/adv': -0.2, 'loss/generator': 2000.0 / step - 0.2, **judged})
        if step % 50 == 0:
            lines.append({'event': 'reconstruction', 'stage': 'gan', 'split': 'holdout',
                          'step': critic * step, 'generator_step': step,
                          'content/own': 0.3 if step < steps else 0.2,
                          'content/other': 0.45 if step < steps else 0.35})
    for step in range(every, steps + 1, every):
        place = {'event': 'stage', 'step': step, 'segmentor_step': step}
        lines += [{**place, 'stage': 'zhu', 'loss/ce': 0.8, 'loss/content': 0.2, 'loss/adv': -0.4,
                   'loss/generator': -0.02, 'loss/total': 0.78, 'disc/fake': 0.4,
                   'weights/norm': 3.0}, {**place, 'stage': 'control', 'loss/ce': 0.9}]
    return lines


@pytest.fixture(scope='session')
def make_redrawing():
    return redrawing_lines


@pytest.fixture(scope='session')
def make_evaluations():
    return evaluation_lines


@pytest.fixture(scope='session')
def make_alternation():
    return alternating_lines
