"""Lists, and makes, the tables and figures of the papers.

--list names all of them with data, time, and what stands in the place of data that is not at
hand; with --paper those of one, with their commands. --paper with --table or --figure prints one,
with our numbers beside the paper's; --run runs its commands first, and stopped, the same command
goes on; --estimate guesses how long they take. --data_dir and --checkpoint say where data and
weights lie, as PATH or NAME=PATH; else they are looked for in a folder ../shared. A trial of few
steps: settings of yours in a --gin_file.

Example:
  python tools/reproduce.py --paper=luc --table=1
"""
import pathlib
import sys

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing

from absl import flags  # noqa: E402

command_line.define_common_flags('data_dir', 'checkpoint', 'gin_file', workdir='runs/reproduce')
flags.DEFINE_bool('list', False, 'Name every table and figure; with --paper those of one, with all '
                  'commands.')
flags.DEFINE_string('paper', None, 'load, luc, durall, hung, zhu or el_gan.')
flags.DEFINE_string('table', None, 'Number of a table; S2 is of the supplement.')
flags.DEFINE_string('figure', None, 'Number of a figure.')
flags.DEFINE_enum('on', None, ('paper', 'here'), "The paper's data, or what stands in its place. "
                  "(default: the paper's where all is at hand)")
flags.DEFINE_string('chart', None, "PNG of the numbers, ours and the paper's, or of a figure of "
                    'several runs. (default: below --workdir, of a figure alone)')
flags.DEFINE_bool('run', False, 'Run the commands, one after another.')
flags.DEFINE_bool('estimate', False, 'Train nothing, guess how long the commands take on this '
                  'machine: a dry run of each kind of run, times how many there are.')

FLAGS = flags.FLAGS
_MORE = ("\n\nThese arguments of reproduce print an entry, with our numbers beside the paper's; add "
         '--run to make it. --list --paper=luc has the commands of that paper, the files they need '
         'and where these are to be had')


def main(argv):
    """Flags, the entry, its commands, its numbers."""
    del argv
    from tf_advseg.core.errors import UserError
    from tf_advseg.experiments.studies import paper_listing
    from tf_advseg.experiments.studies import papers
    from tf_advseg.experiments.studies import reproducing
    from tf_advseg.reporting import tables
    if FLAGS.estimate and (FLAGS.list or FLAGS.run):
        raise UserError('--estimate is of one table or figure, and trains nothing: leave out '
                        '--list and --run')
    if FLAGS.list:
        chosen = [papers.find_paper(FLAGS.paper)] if FLAGS.paper else papers.PAPERS.values()
        given = {**reproducing.paths('data', FLAGS.data_dir),
                 **reproducing.paths('weights', FLAGS.checkpoint)}
        place = reproducing.Place(FLAGS.workdir, given)
        print(paper_listing.listing(chosen, place) if FLAGS.paper
              else paper_listing.overview(chosen, place) + _MORE)
        return
    if not FLAGS.paper or bool(FLAGS.table) == bool(FLAGS.figure):
        raise UserError('which one? Add --paper=NAME with --table=NUMBER or --figure=NUMBER, or '
                        'see --list')
    if FLAGS.chart and not FLAGS.chart.lower().endswith('.png'):
        raise UserError(f'--chart={FLAGS.chart}: expected a PNG file, as chart.png')
    if FLAGS.gin_file and not FLAGS['workdir'].present:
        raise UserError(f'--gin_file={FLAGS.gin_file[0]} makes other runs than the recipes do: add '
                        'a --workdir of their own, as --workdir=runs/trial')
    kind = 'table' if FLAGS.table else 'figure'
    entry = papers.find(FLAGS.paper, kind, FLAGS.table or FLAGS.figure)
    name, way, place = reproducing.choose(entry, FLAGS.on, FLAGS.data_dir, FLAGS.checkpoint,
                                          FLAGS.workdir, FLAGS.gin_file)
    print(paper_listing.entry_text(entry, name, way, place), flush=True)
    if FLAGS.estimate:
        _estimate(way, place)
        return
    if FLAGS.run:
        if way is None:
            raise UserError(f'{FLAGS.paper}, {kind} {entry.number}: {entry.why}')
        reproducing.run(way, place, lambda line: print(f'\n{line}', flush=True))
    elif way is not None and not reproducing.any_of_ours(entry, way, place):
        print(f'\nnothing of it is in {FLAGS.workdir} yet: --run makes it, --estimate guesses how '
              'long that takes')
    for table in (reproducing.comparison(entry, name, way, place),
                  reproducing.chart_table(way, place)):
        if table is not None:
            print(f'\n{tables.to_text(table)}')
    path = reproducing.write_chart(entry, name, way, place, FLAGS.chart)
    if path is not None:
        print(f'made: {path}')
    for path in reproducing.made_files(way, place) if way is not None else ():
        print(f'made: {path}')


def _estimate(way, place):
    """--estimate: prints how long a way's commands take here."""
    if way is None:
        return  # why nothing is run has been said
    from tf_advseg.core import runtime
    runtime.configure(deterministic=True)  # as `train` does
    from tf_advseg.experiments.studies import estimating
    print()
    print(estimating.text(list(estimating.of_way(
        way, place, lambda line: print(line, file=sys.stderr, flush=True)))))


def run():
    """Console script."""
    command_line.run(main, resumes=True)


if __name__ == '__main__':
    run()
