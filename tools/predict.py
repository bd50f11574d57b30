"""Predicts images: for each a palette PNG of class ids and an overlay. Or a film.

<stem>.png holds the ids, <stem>_overlay.png the image under the classes' colours. EXIF is ignored.
Broken images are skipped and named; the same command goes on. Quote patterns ('frames/*.png'). Of
--input=film.mp4 or camera:0 a film. A .tflite or .onnx file beside its export.json is run as it is.

Example:
  python tools/predict.py --checkpoint=demo_run --input=demo_run/example/images --output=predicted
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

SERVERS = ('pascal_voc_2012', 'cityscapes', 'ade20k')  # evaluation.submission has TensorFlow
WORDS = 1_000_000  # that may follow --input: what a shell makes of a pattern without quotes

command_line.define_common_flags('checkpoint', 'which', 'input', 'output', 'eval_scales', 'flip',
                                 'window', 'padding', 'backend')
flags.DEFINE_bool('confidence', False, 'Also <stem>_confidence.png: 255 times the probability.')
flags.DEFINE_enum('submission', None, SERVERS, 'Write what this server takes, instead.')
flags.DEFINE_integer('frames', None, 'Of a camera: how many to predict. Default: until Ctrl-C.')

FLAGS = flags.FLAGS


def main(argv):
    """Flags, one call, what was done."""
    from tf_advseg.core.errors import UserError
    for name, hint in (('checkpoint', 'RUN_DIRECTORY'), ('input', 'IMAGE_OR_FOLDER'),
                       ('output', 'FOLDER')):
        if not getattr(FLAGS, name):
            raise UserError(f'no {name} was given: add --{name}={hint}')
    sources = [*FLAGS.input, *argv[1:]]
    window = command_line.parse_size(FLAGS.window, 'window') if FLAGS.window else None
    runtime.configure()
    from tf_advseg.experiments.score import cameras
    from tf_advseg.experiments.score import evaluating
    from tf_advseg.experiments.score import film_files
    from tf_advseg.experiments.score import input_files
    from tf_advseg.experiments.score import predicting
    from tf_advseg.experiments.score import predicting_films
    from tf_advseg.experiments.convert import importing
    camera = cameras.requested(sources, FLAGS.output, FLAGS.frames)
    film = None if camera else film_files.requested(sources, FLAGS.output)
    if camera or film:
        predicting_films.require_plain(FLAGS.confidence, FLAGS.submission)
    else:
        input_files.find_all(sources)  # a mistyped path fails before the network is built
    checkpoint = importing.resolved(FLAGS.checkpoint, FLAGS.which)
    segmentor, spec, content = evaluating.load(checkpoint, FLAGS.which, maps=True)
    crop_size = evaluating.crop_size(content)
    options = {'scales': FLAGS.eval_scales, 'flip': FLAGS.flip, 'padding': FLAGS.padding,
               'window': window, 'backend': FLAGS.backend, 'say': print}
    if camera:
        print(predicting_films.predict_camera(segmentor, spec, crop_size, *camera,
                                              count=FLAGS.frames, **options).text())
        return
    if film:
        print(predicting_films.predict(segmentor, spec, crop_size, *film, **options).text())
        return
    outcome = predicting.predict(
        segmentor, spec, crop_size, sources, FLAGS.output, confidence=FLAGS.confidence,
        submission=FLAGS.submission,
        network=predicting.identity(checkpoint, evaluating.which_folder(FLAGS.which)), **options)
    for _, reason in outcome.skipped:
        print(f'skipped: {reason}', file=sys.stderr)
    if not outcome.written and not outcome.kept:
        raise UserError(f'{" ".join(sources)}: nothing could be predicted, '
                        f'{len(outcome.skipped)} of {len(outcome.skipped)} images are broken')
    kept = f', {len(outcome.kept)} kept from before' if outcome.kept else ''
    print(f'{len(outcome.written)} predicted, {len(outcome.skipped)} skipped{kept}; written: '
          f'{FLAGS.output}')


def _resumes():
    """Whether the same command goes on where it stopped: images are kept, a film begins anew."""
    from tf_advseg.experiments.score import film_files
    return not (FLAGS.is_parsed() and film_files.is_called_like_a_film(FLAGS.output or ''))


def run():
    """Console script."""
    command_line.run(main, positional=WORDS, resumes=_resumes)


if __name__ == '__main__':
    run()
