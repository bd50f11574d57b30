"""Ghafoorian et al., 2018, EL-GAN: its text is not at hand, so its tables are not listed singly."""
from tf_advseg.experiments.studies.papers.entry import CONTROL, Entry, Paper, Source, Way

_HERE = Way(
    ('sweep --gin_file=gin/papers/el_gan/stanford_background_mobilenet_v2.gin '
     '--data_dir=<data:stanford_background> --checkpoint=<weights:mobilenet_v2_voc_quantised> '
     '--seeds=0,1,2 --workdir=<work>/el_gan_stanford --measures=miou,components',),
    (('control', (Source('el_gan_stanford/as_given/seed*', CONTROL),)),
     ('EL-GAN', (Source('el_gan_stanford/as_given/seed*', 'EL-GAN'),))),
    note='Stanford Background: another task than lanes, so this says what the loss does, no more')

PAPER = Paper('el_gan', 'Ghafoorian et al., EL-GAN: Embedding Loss Driven Generative Adversarial '
              'Networks for Lane Detection (2018)', (
    Entry('table', 'all', 'lane markings on TuSimple', ('mIoU',), ('miou',), (), None, _HERE,
          why='there is no reader of TuSimple and no measure of lanes here, and the text of the '
              'paper is not at hand'),
))
