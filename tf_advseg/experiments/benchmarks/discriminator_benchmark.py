"""What discriminators can win on, and whether they point anywhere: `benchmark cues`, `screen`."""
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import run_directory
from tf_advseg.experiments.benchmarks import benchmarking
from tf_advseg.experiments.benchmarks import cue_table
from tf_advseg.experiments.studies import discriminator_designs
from tf_advseg.methods import cue_audit
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks


def cues(scratch, gin_files, bindings, images):
    """The cue audit of every method's encodings, or of the method that the configuration names.

    Args:
      scratch: a folder for what the data are converted into.
      gin_files, bindings: the configuration; without data in it, generated scenes are taken.
      images: how many training images.

    Returns:
      tables.Table.

    Raises:
      UserError: bad configuration or data.
    """
    configuration.parse(gin_files or ['datasets/shapes.gin'], bindings)
    named = configuration.bound('experiment.method')
    data = datasets.dataset(scratch, benchmarking.argument('data_dir'))
    ids = cue_audit.chosen(data.train, images)
    size = benchmarking.crop_size_of()
    if named:
        results = [cue_table.of_configuration(named, data.records, ids, size)]
    else:
        size = tuple(16 * max(1, round((side - 1) / 16)) + 1 for side in size)
        results = list(cue_table.measure(data.records, ids, size))
    return cue_table.table(results, len(ids), size)


def screen(workdir, gin_files, bindings, strategy, images, chosen=()):
    """Screens the designs of `discriminator_designs` from one start; goes on where it stopped.

    Args:
      workdir: where results and discriminators go.
      gin_files, bindings: a configuration of LoAd whose `experiment.checkpoint` is a finished
        Stage 1.
      strategy: tf.distribute.Strategy.
      images: training images whose gradients are taken; None for all.
      chosen: names of designs; () for all.

    Returns:
      tables.Table.

    Raises:
      UserError: bad configuration or data, or no start.
    """
    configuration.parse(gin_files, bindings)
    checkpoint = benchmarking.argument('checkpoint')
    if not checkpoint:
        raise errors.UserError('no weights to screen from; add '
                               "--gin_param=\"experiment.checkpoint = 'STAGE_ONE'\", the "
                               'checkpoints/stage1 of a run')
    for name in chosen:
        errors.require_one_of('design', name, discriminator_designs.DESIGNS)
    designs = {name: discriminator_designs.DESIGNS[name]
               for name in chosen or discriminator_designs.DESIGNS}
    with run_directory.RunDirectory(workdir) as run:
        data = datasets.dataset(run.path, benchmarking.argument('data_dir'),
                                run_seed=benchmarking.argument('seed'))
        context, segmentor = benchmarking.context_of(run, data, strategy)
        networks.load_weights(networks.find_weights(checkpoint), segmentor)
        results = []
        for line in discriminator_designs.screen(context, segmentor, run.path / 'screening',
                                                 str(checkpoint), designs, images):
            results.append(line)
            print(f'{line["design"]}: signal {line["signal"]:.3f}, accuracy '
                  f'{100 * line["accuracy"]:.1f} %, {line["seconds"]:.0f} s', flush=True)
    return discriminator_designs.table(results)
