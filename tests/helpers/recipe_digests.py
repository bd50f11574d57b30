"""A few steps of each paper's Stanford recipe; prints a digest of the weights that they leave.

    python tests/helpers/recipe_digests.py OUTPUT [CHECKOUT]

Two checkouts that print the same lines train the same, to the bit. The recipes need ../shared. In a
checkout of before gin names were changed (CHANGELOG, "Renamed") they are given under the old names.
"""
import hashlib
import os
import pathlib
import subprocess
import sys

SMALL = ('experiment.crop_size=161',)
STAGE = ('adversarial_stage.steps=4', 'adversarial_stage.batch_size=2',
         'adversarial_stage.train_images=2')
STAGE_ONE = ('stage_one.epochs=0.03', 'stage_one.weighted_epochs=0.03')
RECIPES = {
    'luc': (*STAGE, *STAGE_ONE, 'alternation.pretraining=2'),
    'durall': (*STAGE, *STAGE_ONE, 'swa.every=2'),
    'hung': (*STAGE, *STAGE_ONE, 'hung.semi_start=2'),
    'zhu': (*STAGE, 'reconstruction_stage.steps=3', 'reconstruction_stage.batch_size=2',
            'stage_one.epochs=0.03', 'stage_one.weighted_epochs=0'),
    'load': (*STAGE_ONE, 'controller.max_total_cycles=1', 'controller.max_propagations=2',
             'lookahead.max_epochs=1', 'lookahead.min_epochs=1')}
OLD = {'train_images': 'train_pictures', 'reconstruction_stage': 'redrawing_stage',
       'controller.max_propagations': 'experiment.max_propagations'}


def digests(run):
    """Yields (folder below checkpoints/, digest of every variable in it)."""
    import tensorflow as tf
    for index in sorted(run.glob('checkpoints/**/*.index')):
        reader, found = tf.train.load_checkpoint(str(index)[:-6]), hashlib.sha256()
        for key in sorted(reader.get_variable_to_shape_map()):
            if key.endswith('VARIABLE_VALUE'):
                found.update(key.encode() + reader.get_tensor(key).tobytes())
        yield index.parent.relative_to(run / 'checkpoints'), found.hexdigest()[:16]


def main(output, checkout='.'):
    """Runs every recipe of a checkout and prints what it left."""
    checkout = pathlib.Path(checkout).resolve()
    old = not (checkout / 'tf_advseg' / 'methods' / 'recipe.py').is_file()
    for name, bindings in RECIPES.items():
        words = [f'--gin_param={binding}' for binding in (*SMALL, *bindings)]
        if old:
            for new, former in OLD.items():
                words = [word.replace(new, former) for word in words]
        run = pathlib.Path(output) / name
        subprocess.run(
            [sys.executable, 'tools/train.py', f'--workdir={run.resolve()}', '--seed=0',
             f'--gin_file=gin/papers/{name}/stanford_background_mobilenet_v2.gin', *words],
            check=True, cwd=checkout, stdout=subprocess.DEVNULL,
            env={**os.environ, 'PYTHONPATH': str(checkout)})
        for folder, digest in digests(run):
            print(name, folder, digest, flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
