"""The demo: one command from nothing to a report."""
import os
import pathlib
import shlex
import sys
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_advseg.core import configuration
from tf_advseg.core import files
from tf_advseg.core import run_directory
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import run_stages
from tf_advseg.experiments.train import training
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables
from tf_advseg.run import networks

# How long a demo takes, in first steps (`first_step_seconds`): both alone on one machine.
# python tools/demo.py --smallest took 46 s where a first step took 2.65 s; the whole demo is
# 4.4 times that (docs/platforms.md).
FIRST_STEPS = {'demo.gin': 76, 'demo_smallest.gin': 17}
EXAMPLE = 'example'
EXAMPLE_IMAGES = 20


def write_example(records, folder, count=EXAMPLE_IMAGES):
    """Writes a few images as anybody's own data would lie: images/, labels/, classes.txt.

    Args:
      records: RecordSet.
      folder: made if absent; whole or not there.
      count: how many, from the front of the training split.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        return
    with files.atomic_folder(folder) as temporary:
        for name in ('images', 'labels'):
            (temporary / name).mkdir()
        (temporary / 'classes.txt').write_text('\n'.join(records.spec.class_names) + '\n', 'utf-8')
        for image_id in records.split('train')[:count]:
            image, label = records.load(image_id)
            Image.fromarray(image).save(temporary / 'images' / f'{image_id}.jpg', quality=95)
            panels.write_palette_png(temporary / 'labels' / f'{image_id}.png', np.asarray(label),
                                     records.spec.palette)


def first_step_seconds():
    """Seconds of a network like the demo's to be built, traced and run forth and back once."""
    began = time.perf_counter()
    network = networks.build(networks.describe(
        'deeplab_mobilenet_v2', num_classes=8, crop_size=(97, 97), seed=0, depth_multiplier=0.5,
        decoder=True))

    @tf.function
    def gradients(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(images, training=False) ** 2)
        return tape.gradient(loss, network.trainable_variables)

    for gradient in gradients(tf.zeros([8, 97, 97, 3])):
        gradient.numpy()
    return time.perf_counter() - began


def expected_time(gin_file, first_step):
    """'about 2 minutes here': of a demo where a first step takes so many seconds."""
    minutes = max(1, round(FIRST_STEPS[gin_file] * first_step / 60))
    return f'about {minutes} minute{"s" * (minutes > 1)} here, by a first step of {first_step:.1f} s'


def finished(workdir):
    """Whether a demo is done."""
    path = pathlib.Path(workdir).expanduser()
    return (path / 'report.html').is_file() and (path / run_stages.RESULTS).is_file()


def run(workdir, gin_file, bindings, strategy):
    """Runs the demo, goes on with one that was stopped, or takes up a finished one.

    Args:
      workdir: the run directory.
      gin_file: demo.gin or demo_smallest.gin.
      bindings: gin bindings over it.
      strategy: tf.distribute.Strategy.

    Returns:
      (results as in results.json, True if it had been done before).
    """
    configuration.parse([gin_file], bindings)
    config = configuration.config_text()
    path = pathlib.Path(workdir).expanduser()
    if finished(path):
        with run_directory.RunDirectory(path).open(config, may_change=training.MAY_CHANGE):
            return files.read_json(path / run_stages.RESULTS), True
    results = training.experiment(workdir=path, strategy=strategy)
    write_example(record_sets.RecordSet(path / 'records', verify=False), path / EXAMPLE)
    return results, False


def _shown(path):
    """A path relative to where we are, if it lies below; quoted if it has to be."""
    path = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    try:
        return shlex.quote(str(path.relative_to(pathlib.Path.cwd())))
    except ValueError:
        return shlex.quote(str(path))


def _tool(name):
    """How a tool is started here: from a checkout, or an installed package."""
    script = configuration.gin_root().parent / 'tools' / f'{name}.py'
    if script.is_file():
        return f'{_shown(sys.executable)} {_shown(script)}'
    return f'tf-advseg-{name.replace("_", "-")}'


def next_commands(workdir):
    """Lines to try next; they work as they stand, with the example folder for one's own."""
    run = _shown(workdir)
    example = f'{run}/{EXAMPLE}'
    predicted, records, own = 'runs/predicted', 'runs/my_records', 'runs/mine'
    return [
        '# what happened, as text',
        f'{_tool("inspect_run")} --workdir={run}',
        '# class maps of images: a file or a folder',
        f'{_tool("predict")} --checkpoint={run} --input={example}/images --output={predicted}',
        f'# your own data: put images/*.jpg and labels/*.png in a folder like {example}, then',
        f'{_tool("prepare_data")} --source={example} --output={records}',
        f'{_tool("train")} --gin_file=gin/own_data.gin --data_dir={records} --workdir={own} '
        '--gin_param=experiment.crop_size=97',
        f'{_tool("evaluate")} --checkpoint={own}',
    ]


def print_outcome(results, workdir, done_before):
    """Prints the table, where the report is, and what to try next."""
    if done_before:
        print(f'{workdir}: this demo is done; remove the folder to run it again')
    counts = results.get('images') or results['pictures']  # as earlier versions called them
    print(f'\nchosen by {counts["holdout"]} hold-out images: ' + ', '.join(
        f'{name} {100 * splits["holdout"]["miou"]:.2f}'
        for name, splits in results['models'].items()) + ' % mIoU')
    print(f'\n{tables.to_text(run_results.table(results, "test"))}')
    print(f'\nThe {counts["test"]} test images chose nothing. A difference of a point or two is '
          'within luck here:\nthe demo shows the machinery, not the method\'s worth.')
    print(f'\nreport: {_shown(workdir)}/report.html\n\nNext:')
    for line in next_commands(workdir):
        print(f'  {line}')
