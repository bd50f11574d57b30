"""Zhu et al.'s losses in plain NumPy, float64: equations 2 to 8 and 16 as the paper has them.

Written from the paper. Stand-ins for its networks, so that all is to be had by finite differences:
a painter of one 1x1 convolution, a judge of 2x2 patches, a segmentor of one 1x1 convolution at
stride 2 (in test_zhu.py; here they are their weights).
"""
import numpy as np
from plain_discriminator import bilinear
from plain_hung import IGNORE, sigmoid, softmax


def averaged(image, stride):
    """Each `stride`-th pixel with its neighbours up to half a stride away, inside the image."""
    reach = stride // 2
    rows = range(0, image.shape[1], stride)
    columns = range(0, image.shape[2], stride)
    return np.stack([np.stack([
        image[:, max(0, y - reach):y + reach + 1, max(0, x - reach):x + reach + 1].mean((1, 2))
        for x in columns], 1) for y in rows], 1)


class Plain:
    """The losses of both phases by the weights.

    Args:
      batch: 'image' float [b, h, w, 3] in 0..255, 'label' int [b, h, w]; sides k * stride + 1.
      classes: C.
      settings: the method's, by name; what is not given is the paper's.
    """

    def __init__(self, batch, classes, **settings):
        self.classes = classes
        self.s = {'form': 'gan', 'map_stride': 1, 'generator_sees': 'mask', 'decision': 'mean',
                  'discriminator_sees': 'mask', 'gan_content': 100.0, 'reduction': 'mean',
                  'content_weight': 0.1, 'adversarial_weight': 0.1, 'condition': 'prediction',
                  'l2_weight': 0.0, **settings}
        stride, self.label = self.s['map_stride'], batch['label']
        self.image = batch['image'].astype(np.float64)
        self.grid = [(side - 1) // stride + 1 for side in self.label.shape[1:]]
        small = self.label[:, ::stride, ::stride]
        self.known = (small != IGNORE)[..., None]
        self.truth = np.eye(classes)[np.where(self.known[..., 0], small, 0)] * self.known
        image = self.image / 127.5 - 1.0
        self.scaled = (averaged(image, stride) if stride > 1 else image) * self.known

    def paint(self, masks, weights):
        """G: images of masks."""
        kernel, bias = weights
        if self.s['generator_sees'] == 'mask_and_image':
            masks = np.concatenate([masks, self.scaled], -1)
        return np.tanh(masks @ kernel[0, 0] + bias) * self.known

    def judge(self, images, masks, weights):
        """D: decisions."""
        kernel, bias, last, end = weights
        beside = {'mask': [masks], 'image': [self.scaled], 'nothing': []}
        x = np.concatenate([images, *beside[self.s['discriminator_sees']]], -1)
        b, h, w = x.shape[0], x.shape[1] // 2, x.shape[2] // 2
        x = x[:, :2 * h, :2 * w].reshape(b, h, 2, w, 2, -1)
        found = np.tanh(np.einsum('bhiwjc,ijcd->bhwd', x, kernel) + bias) @ last[0, 0, :, 0] + end
        return found if self.s['decision'] == 'each' else found.mean((1, 2))

    def content(self, reconstructed, reduction='mean'):
        """l_C, eq. 4."""
        apart = np.abs(self.scaled - reconstructed).sum()
        return apart / (len(reconstructed) if reduction == 'sum' else max(self.known.sum() * 3, 1))

    def adversarial(self, responses):
        """l_A, eq. 5 or 6."""
        return (-responses if self.s['form'] == 'wgan' else -np.log(sigmoid(responses))).mean()

    def phase_1(self, painter, judge):
        """What a step of the GAN tells."""
        reconstructed = self.paint(self.truth, painter)
        real = self.judge(self.scaled, self.truth, judge)
        fake = self.judge(reconstructed, self.truth, judge)
        logs = {'loss/content': self.content(reconstructed), 'loss/adv': self.adversarial(fake),
                'disc/real': real.mean(), 'disc/fake': fake.mean()}
        logs['loss/generator'] = self.s['gan_content'] * logs['loss/content'] + logs['loss/adv']
        if self.s['form'] == 'wgan':  # maximised: E[D(real)] - E[D(fake)]
            logs['loss/disc'] = fake.mean() - real.mean()
        else:  # maximised: eq. 7
            logs['loss/disc'] = -(np.log(sigmoid(real)).mean()
                                  + np.log(1 - sigmoid(fake)).mean())
            logs['disc/acc_real'], logs['disc/acc_fake'] = (real > 0).mean(), (fake <= 0).mean()
        return logs

    def phase_2(self, segmentor, painter, judge):
        """What a step of the segmentor tells."""
        coarse = self.image[:, ::2, ::2] / 255 @ segmentor[0][0, 0] + segmentor[1]
        full = softmax(bilinear(coarse, self.label.shape[1:]))
        masks = softmax(bilinear(coarse, self.grid)) * self.known
        known = self.label != IGNORE
        picked = np.take_along_axis(full, np.where(known, self.label, 0)[..., None], -1)[..., 0]
        logs = {'loss/ce': -np.log(picked)[known].sum()}
        logs['loss/ce'] /= len(known) if self.s['reduction'] == 'sum' else max(known.sum(), 1)
        reconstructed = self.paint(masks, painter)
        given = masks if self.s['condition'] == 'prediction' else self.truth
        fake = self.judge(reconstructed, given, judge)
        logs['loss/content'] = self.content(reconstructed, self.s['reduction'])
        logs['loss/adv'], logs['disc/fake'] = self.adversarial(fake), fake.mean()
        logs['loss/generator'] = (self.s['content_weight'] * logs['loss/content']
                                  + self.s['adversarial_weight'] * logs['loss/adv'])
        logs['loss/total'] = (logs['loss/ce'] + logs['loss/generator']
                              + 0.5 * self.s['l2_weight'] * np.square(segmentor[0]).sum())
        return logs
