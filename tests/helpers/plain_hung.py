"""Hung et al.'s step in plain NumPy, float64: equations 1 to 5 and section 5 as the paper has them.

Written from the paper and from what is said of its code; a tiny segmentor of one 1x1 convolution at
stride 2, so that gradients can be had by finite differences.
"""
import numpy as np
import plain_discriminator

from plain_discriminator import bilinear

IGNORE = 255


def nearest(x, size):
    """Align-corners nearest neighbours: [b, h, w] -> [b, *size]; halves go up."""
    for axis, (old, new) in enumerate(zip(x.shape[1:3], size), 1):
        at = np.floor(np.arange(new) * (old - 1) / max(new - 1, 1) + 0.5).astype(int)
        x = np.take(x, at, axis)
    return x


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def mean(values, mask):
    """Over what is True in the mask; of nothing, 0."""
    return values[mask].mean() if mask.any() else 0.0


def diffused(one_hot, s, tau=0.9):
    """Luc et al.'s Scaling of a truth."""
    truth = np.maximum((one_hot * s).sum(-1, keepdims=True), tau)
    rest = 1 - (one_hot * s).sum(-1, keepdims=True)
    return np.where(one_hot > 0, truth, s * (1 - truth) / rest)


class Step:
    """Losses of one step, by the weights.

    Args:
      batch: dict of arrays, see data/mixed.
      phase: 'supervised', 'unlabelled_adversarial' or 'unlabelled'.
      num_classes: C.
      kind: of the discriminator; None for none.
      settings: the method's, by name; what is not given is the paper's.
    """

    def __init__(self, batch, phase, num_classes, kind='pixel', scaling=False, **settings):
        self.batch, self.kind, self.scaling, self.classes = batch, kind, scaling, num_classes
        self.adversarial, self.semi = phase != 'supervised', phase == 'unlabelled'
        self.s = {'terms': 'adv+semi', 'adversarial_weight': 0.01, 'semi_weight': 0.1,
                  'unlabelled_adversarial_weight': 0.001, 'threshold': 0.2, 'reduction': 'mean',
                  'semi_normaliser': 'all', 'discriminator_fakes': 'labelled',
                  'independent_ground_truth': False, 'mask_predictions': True, 'map_stride': 1,
                  'l2_weight': 1e-4, 'early_out': False, 'selected_by': 'discriminator',
                  'self_training_by': 'share', 'self_training_threshold': 0.9,
                  'self_training_share': 0.7, **settings}

    def predicted(self, segmentor):
        """(S(X)'s logits at the image's size; on the grid of D's maps)."""
        image = self.batch['image'].astype(np.float64)[:, ::2, ::2] / 255
        coarse = image @ segmentor[0][0, 0] + segmentor[1]
        size = self.batch['label'].shape[1:3]
        grid = [(side - 1) // self.s['map_stride'] + 1 for side in size]
        return bilinear(coarse, size), bilinear(coarse, grid)

    def masks(self, grid):
        """(labelled points, points of unlabelled images), bool on the grid."""
        valid = nearest(self.batch['valid'], grid)
        rows = self.batch['labeled'][:, None, None]
        others = ~rows & (valid if self.s['mask_predictions'] else np.ones_like(valid))
        return rows & valid, others

    def judge(self, maps, discriminator):
        return plain_discriminator.logits(maps, discriminator, self.kind)

    def fakes(self, logits):
        """S(X) as D sees it."""
        maps = softmax(logits)
        if self.s['mask_predictions']:
            maps = maps * nearest(self.batch['valid'], logits.shape[1:3])[..., None]
        return maps

    def decisions(self, points):
        return points if self.kind == 'pixel' else points.any((1, 2))

    def chosen(self, logits, z, others):
        """(self-taught classes, where L_semi is taken), constants of the step."""
        target, sure = logits.argmax(-1), softmax(logits).max(-1)
        if self.s['terms'] != 'self_training':
            above = sigmoid(z) > self.s['threshold']
            found = others & (above | (self.s['threshold'] == 0))
            if self.s['selected_by'] == 'discriminator':
                return target, found
            counts = found.sum((1, 2))
        elif self.s['self_training_by'] == 'threshold':
            return target, others & (sure > self.s['self_training_threshold'])
        else:
            counts = np.round(self.s['self_training_share'] * others.sum((1, 2)))
        selected = np.zeros_like(others)
        for row, (certainty, valid, count) in enumerate(zip(sure, others, counts.astype(int))):
            order = np.argsort(-np.where(valid, certainty, -1), axis=None)[:count]
            selected[row].reshape(-1)[order] = True
        return target, selected

    def segmentor_loss(self, segmentor, discriminator, constants=None):
        """(eq. 2 with weight decay; what it is made of). `constants` are of `chosen`."""
        s, logs = self.s, {}
        full, grid = self.predicted(segmentor)
        labelled, others = self.masks(grid.shape[1:3])
        known = self.batch['label'] != IGNORE
        picked = np.take_along_axis(softmax(full), np.where(known, self.batch['label'], 0)[
            ..., None], -1)[..., 0]
        total = {'mean': mean, 'sum': lambda values, mask: values[mask].sum()}[s['reduction']]
        logs['loss/ce'] = total(-np.log(picked), known)
        loss = logs['loss/ce'] + 0.5 * s['l2_weight'] * np.square(segmentor[0]).sum()
        z = self.judge(self.fakes(grid), discriminator) if self.kind else None
        share = None
        if self.semi:
            target, selected = constants or self.chosen(grid, z, others)
            losses = -np.log(np.take_along_axis(softmax(grid), target[..., None], -1)[..., 0])
            logs['semi/selected'] = share = selected.sum() / max(others.sum(), 1)
            logs['loss/semi'] = losses[selected].sum()
            if s['reduction'] == 'mean':
                of = selected if s['semi_normaliser'] == 'selected' else others
                logs['loss/semi'] /= max(of.sum(), 1)
            loss += s['semi_weight'] * logs['loss/semi']
        if self.kind:
            adv = -np.log(sigmoid(z))
            on = 'adv' in s['terms']
            logs['loss/adv'] = total(adv, self.decisions(labelled))
            loss += on * s['adversarial_weight'] * logs['loss/adv']
            if self.adversarial:
                logs['loss/adv_unlabelled'] = total(adv, self.decisions(others))
                kept = not (s['early_out'] and share == 0)
                loss += on * kept * s['unlabelled_adversarial_weight'] * logs[
                    'loss/adv_unlabelled']
        return loss, {**logs, 'loss/total': loss}

    def discriminator_loss(self, segmentor, discriminator):
        """(half of eq. 1's two means; what it is made of)."""
        s, batch = self.s, self.batch
        _, logits = self.predicted(segmentor)
        labelled, others = self.masks(logits.shape[1:3])
        truth = nearest(batch['truth' if s['independent_ground_truth'] else 'label'],
                        logits.shape[1:3])
        counted = (truth != IGNORE) & batch['labeled'][:, None, None]
        one_hot = np.eye(self.classes)[np.where(truth == IGNORE, 0, truth)]
        if self.scaling:
            one_hot = diffused(one_hot, softmax(logits))
        real = self.judge(one_hot * (truth != IGNORE)[..., None], discriminator)
        fake = self.judge(self.fakes(logits), discriminator)
        seen = labelled
        if s['discriminator_fakes'] == 'all' and self.adversarial:
            seen = labelled | others
        counted, seen = self.decisions(counted), self.decisions(seen)
        loss = 0.5 * (mean(-np.log(sigmoid(real)), counted) + mean(-np.log(sigmoid(-fake)), seen))
        return loss, {'loss/disc': loss, 'disc/acc_real': mean((real > 0) * 1.0, counted),
                      'disc/acc_fake': mean((fake <= 0) * 1.0, seen),
                      'disc/fooled': mean((fake > 0) * 1.0, self.decisions(labelled))}


def slope(loss, weights, place, step=1e-5):
    """d loss / d weights[place[0]][place[1:]], by central differences in float64.

    Args:
      loss: function(weights) -> float.
      weights: list of arrays.
      place: (which array, *where in it).
    """
    ends = []
    for sign in (1, -1):
        moved = [np.array(w, np.float64) for w in weights]
        moved[place[0]][tuple(place[1:])] += sign * step
        ends.append(loss(moved))
    return (ends[0] - ends[1]) / (2 * step)
