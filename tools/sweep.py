"""Runs a grid of settings and seeds, one process a run, and tables the outcome.

Started again it skips what is done, goes on with what was stopped, and tries failed runs anew.
Each cell is a run directory below --workdir; logs/ holds what the runs print. '{seed}' in
--checkpoint and --gin_param stands for the seed of each run. With --runs it trains nothing and
tables finished runs, or draws the --curves of runs; cells are compared with the first, or with
those of --against, seed by seed. --dry_run lists the commands, --estimate guesses their time.

Example:
  python tools/sweep.py --gin_file=gin/demo_smallest.gin --workdir=runs/sweep --seeds=0,1 \\
      --grid=lookahead.balance=0.5,1 --dry_run
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

command_line.define_common_flags('gin_file', 'gin_param', 'workdir', 'data_dir', 'checkpoint',
                                 'strategy', 'dry_run')
flags.DEFINE_bool('estimate', False, 'Train nothing, guess how long the runs take on this machine: '
                  'a dry run of each cell, times its seeds.')
flags.DEFINE_multi_string('grid', [], 'Axis of the grid, NAME=VALUE,VALUE,...; repeatable.')
flags.DEFINE_multi_string('cell', [], 'Cell, no grid: "NAME: FILE.gin; BINDING" (wins over '
                          '--gin_param); repeatable.')
flags.DEFINE_string('cells', None, 'File with a --cell a line; what follows # is for readers.')
flags.DEFINE_list('seeds', ['0'], 'Seeds of every cell, as 0,1,2 or 0-9.')
flags.DEFINE_enum('on', 'here', ('here', 'ray'), 'Runs go one after another here, or several at '
                  'once on a Ray cluster.')
flags.DEFINE_string('ray_address', 'auto', 'HOST:PORT of the cluster; local starts one here.')
flags.DEFINE_float('cell_cpus', 1, 'With --on=ray: CPUs of each run.')
flags.DEFINE_float('cell_gpus', 0, 'With --on=ray: GPUs of each run.')
flags.DEFINE_multi_string('runs', [], 'Train nothing, table these finished runs, as PATH or '
                          'NAME=PATTERN for those of one cell, or NAME=FILE for one of a kept '
                          "file's cells; repeatable.")
flags.DEFINE_string('keep', None, 'File for what can be tabled of the runs, which --runs takes. '
                    "(default: cells.jsonl in a sweep's folder)")
flags.DEFINE_multi_string('update', [], 'Train nothing, make the tables of this Markdown document '
                          'anew (docs/runs_and_reports.md); repeatable.')
flags.DEFINE_string('against', None, "Cells compared with; control: the runs' controls. "
                    '(default: the first)')
flags.DEFINE_string('chart', None, 'PNG of the differences with their intervals. (default: '
                    "sweep.png in a sweep's folder)")
flags.DEFINE_multi_string('claim', [], 'A hollow mark in the chart, CELL=POINTS: the gain in mIoU '
                          "over its baseline that the cell's paper prints; repeatable.")
flags.DEFINE_string('curves', None, "PNG of the hold-out's mIoU over steps; with --runs of runs "
                    "under way, too, and without tables. (default: curves.png in a sweep's "
                    'folder)')
flags.DEFINE_list('measures', ['miou'], 'What is tabled: miou, pixel_accuracy, '
                  'mean_class_accuracy, fwiou, miou_without_rare, boundary, boundary_std, '
                  'components, spurious, missed, trimap, improved, '
                  'discriminator_accuracy.')

FLAGS = flags.FLAGS
_OF_TRAINING = ('gin_file', 'gin_param', 'workdir', 'data_dir', 'checkpoint', 'strategy',
                'dry_run', 'estimate', 'grid', 'cell', 'cells', 'seeds', 'on', 'ray_address',
                'cell_cpus', 'cell_gpus')
_OF_TABLES = ('keep', 'chart', 'against', 'measures', 'claim')


def main(argv):
    """Documents, finished runs, or a sweep."""
    del argv
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.studies import tabled_measures
    measures = tabled_measures.parse_measures(FLAGS.measures)
    for name in ('chart', 'curves'):
        if FLAGS[name].value and not FLAGS[name].value.lower().endswith('.png'):
            raise UserError(f'--{name}={FLAGS[name].value}: expected a PNG file, as {name}.png')
    if FLAGS.update:
        _update_documents()
    elif FLAGS.runs:
        _show_runs(measures)
    else:
        _sweep(measures)


def _update_documents():
    """--update: the tables of documents, made anew."""
    from tf_advseg.experiments.studies import document_tables
    _refuse((*_OF_TRAINING, *_OF_TABLES, 'runs', 'curves'), '--update makes tables of documents')
    for path in FLAGS.update:
        print(path, 'updated' if document_tables.update(path) else 'is up to date')


def _show_runs(measures):
    """--runs: the tables or the curves of finished runs."""
    from tf_advseg.experiments.studies import finished_runs
    from tf_advseg.experiments.studies import run_curves
    _refuse(_OF_TRAINING, '--runs tables finished runs and trains nothing')
    if FLAGS.curves:
        _refuse(_OF_TABLES, '--runs with --curves draws runs and tables nothing')
        print(run_curves.write(run_curves.cells(finished_runs.parse(FLAGS.runs)), FLAGS.curves))
    else:
        _table_runs(measures)


def _cells():
    """The cells that the flags ask for, their configurations looked at."""
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.studies import sweep_chart
    from tf_advseg.experiments.studies import sweep_table
    from tf_advseg.experiments.studies import sweeping
    missing = [flag for flag, given in (('--gin_file=gin/...', FLAGS.gin_file),
                                        ('--workdir=runs/NAME', FLAGS.workdir)) if not given]
    if missing:
        raise UserError('a sweep needs a configuration and a folder for its runs: add '
                        f'{" and ".join(missing)}')
    seeds = sweeping.parse_seeds(FLAGS.seeds)
    axes = [sweeping.parse_axis(text) for text in FLAGS.grid]
    named = [*(sweeping.read_cells(FLAGS.cells) if FLAGS.cells else ()),
             *map(sweeping.parse_cell, FLAGS.cell)]
    if axes and named:
        raise UserError('--grid with --cell or --cells: give one of the two')
    cells = (sweeping.named_cells(FLAGS.workdir, named, seeds) if named
             else sweeping.make_cells(FLAGS.workdir, axes, seeds))
    names = list(dict.fromkeys(cell.name for cell in cells))
    sweep_table.require_references(
        '--against', sweep_table.parse_references(FLAGS.against, names), names)
    sweep_chart.parse_claims(FLAGS.claim, names)
    runtime.configure(deterministic=FLAGS.estimate)  # as `train` does, whose time is guessed
    return sweeping.check(cells, FLAGS.gin_file, FLAGS.gin_param, FLAGS.data_dir, FLAGS.checkpoint)


def _sweep(measures):
    """Runs the cells and tables them; with --dry_run prints their commands."""
    from tf_advseg.core import files
    from tf_advseg.core import locks
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.studies import cell_runs
    from tf_advseg.experiments.studies import ray_cells
    from tf_advseg.experiments.studies import run_curves
    from tf_advseg.experiments.studies import sweeping
    on_ray = _ray_settings()
    cells = _cells()

    def command(cell):
        return sweeping.cell_command(cell, FLAGS.gin_file, FLAGS.gin_param, FLAGS.data_dir,
                                     FLAGS.checkpoint, FLAGS.strategy)

    missing = sum(not cell.done for cell in cells)
    if FLAGS.dry_run:
        print(*sweeping.listing(cells, command), sep='\n')
        print(f'{len(cells)} runs, {missing} to run; --estimate guesses how long they take')
        return
    if FLAGS.estimate:
        _estimate(cells)
        return
    cell_runs.require_starts(cells, FLAGS.checkpoint)
    print(f'{len(cells)} runs, {missing} to run; each prints into {FLAGS.workdir}/logs', flush=True)
    if on_ray:
        failed = ray_cells.run_cells(cells, FLAGS.workdir, command, on_ray)
    else:
        failed = cell_runs.run_cells(cells, FLAGS.workdir, command)
    workdir = pathlib.Path(FLAGS.workdir)
    with locks.writing(workdir / 'sweep'):  # another sweep may have cells of its own here
        _write_tables(sweeping.collect(cells), measures)
        for cell, line in failed:
            print(f'failed: {cell.folder}: {line}', file=sys.stderr)
        run_curves.write_sweep(cells, FLAGS.curves, workdir / 'curves.png')
        # What killed starts left of the files that are there now.
        files.remove_left(workdir, [path.name for path in workdir.iterdir()])
    if failed:
        raise UserError(f'{len(failed)} of {len(cells)} runs failed; see {FLAGS.workdir}/logs, '
                        'then start the same command again')


def _estimate(cells):
    """--estimate: prints how long the cells take here, each when it is known."""
    from tf_advseg.experiments.studies import estimating
    seconds = 0.0
    for found in estimating.of_cells(cells, FLAGS.gin_file, FLAGS.gin_param, FLAGS.data_dir,
                                     lambda line: print(line, file=sys.stderr, flush=True)):
        print(found.text, flush=True)
        seconds += found.seconds
    print(estimating.together(seconds))


def _refuse(names, why):
    """Raises UserError where flags of these names are given."""
    from tf_advseg.core.errors import UserError
    given = [f'--{name}' for name in names if FLAGS[name].present]
    if given:
        raise UserError(f'{why}: leave out {", ".join(given)}')


def _ray_settings():
    """Where --on=ray runs the cells; None where they run here."""
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.studies import ray_cells
    if FLAGS.on != 'ray':
        given = [f'--{name}' for name in ('ray_address', 'cell_cpus', 'cell_gpus')
                 if FLAGS[name].present]
        if given:
            raise UserError(f'{", ".join(given)}: for --on=ray alone; add it')
        return None
    settings = ray_cells.Settings(FLAGS.ray_address, FLAGS.cell_cpus, FLAGS.cell_gpus)
    ray_cells.imported()  # said before every cell's configuration is looked at, which takes longer
    return settings


def _table_runs(measures):
    """Prints the tables of --runs."""
    from tf_advseg.core import files
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.studies import finished_runs
    from tf_advseg.reporting import curves
    from tf_advseg.reporting import tables
    groups = finished_runs.parse(FLAGS.runs)
    collected = finished_runs.collect(groups)
    if FLAGS.keep:
        finished_runs.keep(collected, FLAGS.keep)
    for paths in groups.values():
        note = finished_runs.configurations_note(paths)
        if note:
            print(note)
    for note in finished_runs.pairing_notes(groups):
        print(note)
    found, chart = _found(collected, measures)
    print('\n\n'.join(tables.to_text(table) for _, table in found))
    if FLAGS.chart and chart is None:
        raise UserError('--chart: nothing to draw, as no difference has an interval; give two runs '
                        'or more of each cell')
    if FLAGS.chart:
        with files.atomic_file(FLAGS.chart) as file:
            file.write(curves.encode(chart))


def _found(collected, measures):
    """([(name, table)], chart or None) of the measures, and of mIoU pooled over folds."""
    from tf_advseg.experiments.studies import pooled_folds
    from tf_advseg.experiments.studies import sweep_chart
    from tf_advseg.experiments.studies import sweep_table
    from tf_advseg.reporting import forest_plot
    references = sweep_table.parse_references(FLAGS.against, collected)
    found = sweep_table.of_measures(collected, references, measures)
    pooled = pooled_folds.table(collected, references) if 'miou' in measures else None
    panels = sweep_chart.panels(collected, references, measures,
                                sweep_chart.parse_claims(FLAGS.claim, collected))
    return (found + ([('_pooled', pooled)] if pooled else []),
            forest_plot.forest(panels) if panels else None)


def _write_tables(collected, measures):
    """Prints a sweep's tables and writes them, their rows and a chart beside its runs."""
    from tf_advseg.core import files
    from tf_advseg.experiments.studies import finished_runs
    from tf_advseg.reporting import curves
    from tf_advseg.reporting import tables
    found, chart = _found(collected, measures)
    workdir = pathlib.Path(FLAGS.workdir)
    for name, table in found:
        print(tables.to_text(table))
        with files.atomic_file(workdir / f'sweep{name}.csv', 'w') as file:
            file.write(tables.to_csv(table))
    if any(collected.values()):
        finished_runs.keep(collected, FLAGS.keep or workdir / 'cells.jsonl')
    if chart is not None:
        with files.atomic_file(FLAGS.chart or workdir / 'sweep.png') as file:
            file.write(curves.encode(chart))


def run():
    """Console script."""
    command_line.run(main, resumes=True)


if __name__ == '__main__':
    run()
