"""Predicts pictures: for each a palette PNG of class ids and an overlay.

<stem>.png holds the ids (pixel values 0, 1, ...; shown in the classes' colours),
<stem>_overlay.png the picture under them. Broken pictures are skipped and named at the end.

Example:
  python tools/predict.py --checkpoint=demo_run --input=demo_run/example/images --output=predicted
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags  # noqa: E402

from tf_advseg.core import command_line  # noqa: E402
from tf_advseg.core import runtime  # noqa: E402

command_line.define_common_flags('checkpoint', 'which', 'input', 'output', 'eval_scales',
                                 'flip')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, what was done."""
    del argv
    from tf_advseg.core.errors import UserError
    for name, hint in (('checkpoint', 'RUN_DIRECTORY'), ('input', 'PICTURE_OR_FOLDER'),
                       ('output', 'FOLDER')):
        if not getattr(FLAGS, name):
            raise UserError(f'no {name} was given: add --{name}={hint}')
    runtime.configure()
    from tf_advseg.experiments import evaluating
    from tf_advseg.experiments import predicting
    predicting.find_pictures(FLAGS.input)  # a mistyped path is told before the network is built
    segmentor, spec, content = evaluating.load(FLAGS.checkpoint, FLAGS.which)
    outcome = predicting.predict(segmentor, spec, evaluating.crop_size(content), FLAGS.input,
                                 FLAGS.output, scales=FLAGS.eval_scales, flip=FLAGS.flip)
    for _, reason in outcome.skipped:
        print(f'skipped: {reason}', file=sys.stderr)
    if not outcome.written:
        raise UserError(f'{FLAGS.input}: nothing could be predicted, '
                        f'{len(outcome.skipped)} of {len(outcome.skipped)} pictures are broken')
    print(f'{len(outcome.written)} predicted, {len(outcome.skipped)} skipped; written: '
          f'{FLAGS.output}')


def run():
    """Console script."""
    command_line.run(main)


if __name__ == '__main__':
    run()
