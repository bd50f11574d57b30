"""Cells on Ray: two local nodes, one of them killed; and what can be tried without Ray."""
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import types

import controlled_runs
import pytest

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.experiments.studies import cell_runs
from tf_advseg.experiments.studies import ray_cells
from tf_advseg.experiments.studies import sweeping

# A stand-in for train.py: resumes from its last step, and its result depends on every step.
STAND_IN = '''
import hashlib, json, os, pathlib, signal, sys, time
words = dict(word[2:].split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["workdir"])
folder.mkdir(parents=True, exist_ok=True)
print("begins", flush=True)
with open(folder / "starts", "a") as file:
    file.write(f"{os.getppid()}\\n")
def ended(*_):
    (folder / "ended_gently").touch()
    raise SystemExit(1)
signal.signal(signal.SIGTERM, ended)
state = folder / "state"
value, step = state.read_text().split() if state.exists() else (words["seed"], 0)
for step in range(int(step), int(words["gin_param"].split()[-1])):
    value = hashlib.sha256(f"{value} {step}".encode()).hexdigest()
    time.sleep(0.05)
    (folder / "state.new").write_text(f"{value} {step + 1}")
    os.replace(folder / "state.new", state)
if "broken" in words["gin_param"]:
    sys.exit("error: this one fails")
scores = {"test": {"miou": int(value[:8], 16) / 2 ** 32}}
(folder / "results.json").write_text(json.dumps({"models": {"LoAd": scores}}))
(folder / "report.html").touch()
'''


@pytest.fixture
def stand_in(tmp_path):
    """function(sweep folder, steps, cells) -> (cells, their command)."""
    script = tmp_path / 'train.py'
    script.write_text(STAND_IN)

    def made(name, steps, number=4):
        cells = sweeping.make_cells(tmp_path / name, [], range(number))
        return cells, lambda cell: sweeping.cell_command(
            cell, ['x.gin'], [f'f.steps = {steps}'], prefix=[sys.executable, str(script)])
    return made


def _starts(cells):
    return [(cell.folder / 'starts').read_text().split() if (cell.folder / 'starts').is_file()
            else [] for cell in cells]


def _until(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(0.05)


@pytest.fixture(scope='module')
def cluster():
    """A head that takes no cell and a node of one CPU; a test may add one and kill it."""
    pytest.importorskip('ray', reason='the extra ray is not installed')
    ray_cells.imported()
    from ray import cluster_utils
    made = cluster_utils.Cluster()
    _add_node(made, num_cpus=0, include_dashboard=False)
    _add_node(made, num_cpus=1)
    yield made
    made.shutdown()


def _add_node(cluster, **given):
    """A node of its own; Ray gives each 30 seconds to start, which a busy machine may not do."""
    for left in reversed(range(5)):
        try:
            return cluster.add_node(**given)
        except Exception as error:  # Ray has no class for it
            if not left or 'timed out during startup' not in str(error):
                raise


@contextlib.contextmanager
def _second_node(cluster, when=None):
    """Another node of one CPU; it is killed once `when` returns true, else removed at the end."""
    node = _add_node(cluster, num_cpus=1)

    def kill():
        if when:
            _until(when)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    if when:
        killer.start()
    try:
        yield
    finally:
        if not when:
            killer.start()
        killer.join()


def test_numbers_and_addresses_are_checked():
    assert ray_cells.Settings(cpus=0.5, gpus=2.0).gpus == 2
    for given, text in (({'cpus': 1.5}, '--cell_cpus=1.5: expected a whole number'),
                        ({'gpus': -1.0}, '--cell_gpus=-1'),
                        ({'gpus': float('nan')}, '--cell_gpus=nan'),
                        ({'cpus': 0.0}, 'all cells would run at once'),
                        ({'address': 'ray://head:10001'}, 'start it on a node of the cluster')):
        with pytest.raises(errors.UserError, match=text):
            ray_cells.Settings(**given)


def test_nodes_that_are_gone_or_too_small_do_not_count():
    def node(alive, **resources):
        return {'Alive': alive, 'Resources': resources}

    nodes = [node(True, CPU=4.0), node(True, CPU=4.0, GPU=1.0), node(False, CPU=4.0, GPU=1.0),
             node(True, GPU=1.0)]
    assert ray_cells.Settings(cpus=2).fit(nodes) == nodes[:2]
    assert ray_cells.Settings(cpus=2, gpus=0.5).fit(nodes) == nodes[1:2]
    assert ray_cells.Settings(cpus=5).fit(nodes) == []


def test_a_broken_pyarrow_is_said_before_ray_falls_over_it(tmp_path, monkeypatch):
    (tmp_path / 'pyarrow.py').write_text('raise ImportError("pyarrow requires NumPy 2.0")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'pyarrow', raising=False)
    monkeypatch.setitem(sys.modules, 'ray', types.ModuleType('ray'))
    with pytest.raises(errors.UserError, match=r"\(pyarrow requires NumPy 2.0\); .* 'pyarrow<26'"):
        ray_cells.imported()


@pytest.mark.parametrize('address', ['127.0.0.1:1', '127.0.0.1:x', 'no_such_host.invalid:6379'])
def test_a_cluster_that_does_not_answer_is_a_line_at_once(address, monkeypatch):
    ray = types.SimpleNamespace(init=lambda **_: pytest.fail('Ray would try for minutes'))
    monkeypatch.setenv('RAY_ADDRESS', address)
    for given in (address, 'auto'):
        with pytest.raises(errors.UserError, match=f'={given}: no cluster .*ray start'):
            with ray_cells._connected(ray, given):
                pass


def _place(tmp_path, **given):
    (tmp_path / 'mark').touch()
    return ray_cells.Place(**{'folder': str(tmp_path), 'mark': str(tmp_path / 'mark'),
                              'programs': (sys.executable,), 'variables': {}, 'gpus': 0.0, **given})


def test_a_node_without_the_files_is_named(tmp_path):
    assert _place(tmp_path).unseen() is None
    for given, named in (({'folder': '/x/y'}, '/x/y'), ({'programs': ('/x/python',)}, '/x/python'),
                         ({'mark': f'{tmp_path}/s/logs/.tmp-ray-1'}, f'{tmp_path}/s/logs')):
        problem = _place(tmp_path, **given).unseen()
        assert f'{os.uname().nodename}: {named} is not' in problem and '\n' not in problem
    cell, = sweeping.make_cells(tmp_path / 'sweep', [], [0])
    told = ray_cells._run_cell(cell, ['false'], tmp_path / 'log', _place(tmp_path, folder='/x/y'))
    assert '/x/y' in told and not (tmp_path / 'log').exists()


def test_a_cell_has_the_sweeps_variables_and_the_nodes_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')  # as Ray sets it, which no process here would have
    variables = {'TF_X': '1'}
    assert _place(tmp_path, variables=variables, gpus=1.0).environment() == {
        'TF_X': '1', 'CUDA_VISIBLE_DEVICES': '3'}
    assert _place(tmp_path, variables=variables).environment()['CUDA_VISIBLE_DEVICES'] == '-1'


def test_one_cell_trains_a_control_and_those_that_take_it_over_wait(tmp_path):
    first, second, third, other = sweeping.make_cells(tmp_path, [], range(4))
    second, third = (sweeping.dataclasses.replace(cell, control_from=first.folder)
                     for cell in (second, third))
    assert ray_cells.startable([first, second, third, other], []) == [first, other]
    assert ray_cells.startable([second, third], [first, other]) == []
    assert ray_cells.startable([second, third], [other]) == [second, third]


class _Ray:
    """A cluster in this process: a task runs when it is waited for."""

    class exceptions:
        class RayError(Exception):
            """As Ray's."""

    def __init__(self, run):
        self.run, self.begun, self.cancelled, self.fits = run, [], [], True

    def start(self, cell):
        self.begun.append(cell)
        return cell

    def nodes(self):
        return [{'Alive': self.fits, 'Resources': {'CPU': 1.0}}]

    def wait(self, references, num_returns=1, timeout=None):
        assert timeout
        return references[:num_returns], references[num_returns:]

    def get(self, cell):
        return self.run(cell)

    def cancel(self, cell):
        self.cancelled.append(cell)


def test_cells_start_when_their_control_is_there_whatever_becomes_of_it(tmp_path, capfd):
    first, second, other = sweeping.make_cells(tmp_path, [], range(3))
    second = sweeping.dataclasses.replace(second, control_from=first.folder)
    order = []

    def run(cell):
        order.append((cell.seed, [begun.seed for begun in ray.begun]))
        if cell is first:
            ray.fits = False
            raise ray.exceptions.RayError('the worker died\nunexpectedly')
        return f'exit code 1: error: {cell.seed}'

    ray = _Ray(run)
    failed = ray_cells._run_all(ray, ray_cells.Settings(), [first, second, other], ray.start, False)
    assert order == [(0, [0, 2]), (2, [0, 2, 1]), (1, [0, 2, 1])]
    assert failed == {first.folder: 'RayError: the worker died',
                      second.folder: 'exit code 1: error: 1', other.folder: 'exit code 1: error: 2'}
    assert capfd.readouterr().err.count('no node is left') == 1


def test_an_interrupt_stops_what_has_begun(tmp_path):
    first, other = sweeping.make_cells(tmp_path, [], range(2))

    def run(cell):
        raise KeyboardInterrupt

    ray = _Ray(run)
    with pytest.raises(KeyboardInterrupt):
        ray_cells._run_all(ray, ray_cells.Settings(), [first, other], ray.start, False)
    assert ray.cancelled == [other]  # the first had ended


def test_results_that_never_appear_here_are_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cells, 'SEEN', 0.0)
    cell, = sweeping.make_cells(tmp_path, [], [0])
    assert 'not to be seen here' in ray_cells._outcome(_Ray(lambda cell: None), cell, cell)


@pytest.mark.slow
def test_a_node_is_killed_and_all_cells_end_as_in_one_process(stand_in, tmp_path, cluster):
    plain, command = stand_in('plain', 60)
    assert cell_runs.run_cells(plain, tmp_path / 'plain', command, show=False) == []
    cells, command = stand_in('ray', 60)
    with _second_node(cluster, when=lambda: sum(map(bool, _starts(cells))) == 2):
        handler = signal.getsignal(signal.SIGTERM)
        assert ray_cells.run_cells(cells, tmp_path / 'ray', command,
                                   ray_cells.Settings(cluster.address), show=False) == []
        assert signal.getsignal(signal.SIGTERM) is handler  # not Ray's
    assert sorted(map(len, _starts(cells))) == [1, 1, 1, 2]  # one was begun again
    for one, other in zip(plain, cells):
        assert one.done and other.done
        for name in ('results.json', 'state'):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
    logs = sorted(path.name for path in (tmp_path / 'ray' / 'logs').iterdir())
    assert logs == sorted(path.name for path in (tmp_path / 'plain' / 'logs').iterdir())
    found, expected = (sweeping.collect(some) for some in (cells, plain))
    assert found == expected and len(found['as given']) == 4


@pytest.mark.slow
def test_trainings_are_those_of_one_process_and_share_their_control(tmp_path, cluster, repository):
    """The node of the first is killed while it trains; only the node that comes then can go on."""
    gin_file = tmp_path / 'small.gin'
    gin_file.write_text('\n'.join(controlled_runs.LUC))
    axis = 'luc.adversarial_weight=1.0,2.0'
    cells = sweeping.make_cells(tmp_path / 'ray', [sweeping.parse_axis(axis)], [3])

    def sweep(name, *words):
        return subprocess.Popen(
            [sys.executable, 'tools/sweep.py', '--gin_file=gin/methods/luc.gin',
             f'--gin_file={gin_file}', f'--grid={axis}', '--seeds=3',
             f'--workdir={tmp_path / name}', *words], cwd=repository, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def tables(process, name):
        said = process.communicate()[1]
        assert process.returncode == 0, said
        return {path.name: path.read_bytes() for path in (tmp_path / name).glob('*.csv')}

    node = _add_node(cluster, num_cpus=2)
    process = sweep('ray', '--on=ray', f'--ray_address={cluster.address}', '--cell_cpus=2')
    _until(lambda: any(cells[0].folder.glob('stages/*')) or process.poll() is not None)
    cluster.remove_node(node, allow_graceful=False)
    node = _add_node(cluster, num_cpus=2)
    found = tables(process, 'ray')
    cluster.remove_node(node)
    assert found == tables(sweep('plain'), 'plain') and 'sweep.csv' in found
    starts = [len(files.read_json(cell.folder / 'environment.json')['earlier_starts'])
              for cell in cells]
    assert starts == [1, 0]
    sources = []
    for cell in cells:
        other = tmp_path / 'plain' / cell.folder.relative_to(tmp_path / 'ray')
        results, expected = (files.read_json(folder / 'results.json')
                             for folder in (cell.folder, other))
        assert results['models'] == expected['models']
        sources.append(results.get('control_from'))
        weights = [path.relative_to(other) for path in other.glob('checkpoints/**/*.data*')]
        assert weights
        for path in weights:
            assert (cell.folder / path).read_bytes() == (other / path).read_bytes(), path
    assert sources == [None, str(cells[0].folder)]


@pytest.mark.slow
def test_failures_and_mistakes_on_a_cluster(stand_in, tmp_path, cluster, monkeypatch):
    def run(**given):
        return ray_cells.run_cells(cells, tmp_path / 'ray', command,
                                   ray_cells.Settings(cluster.address, **given), show=False)

    cells, command = stand_in('ray', '"broken" + 1', number=2)
    assert run(cpus=0.5) == [(cell, 'exit code 1: error: this one fails') for cell in cells]
    with pytest.raises(errors.UserError, match='--cell_cpus=2 --cell_gpus=0: no node .*: 1 CPUs'):
        run(cpus=2)
    monkeypatch.setattr(ray_cells, '_marked', lambda logs: contextlib.nullcontext('/x/mark'))
    with pytest.raises(errors.UserError, match='node .*: /x is not what it is'):
        run()
    assert list(map(len, _starts(cells))) == [1, 1]


SWEEP = '''
import sys
from tf_advseg.core import command_line
from tf_advseg.experiments.studies import cell_runs, ray_cells, sweeping
cell_runs.PATIENCE = 10 ** 6  # runs that are not told to end would keep it here
folder, script, address = sys.argv[1:]
def main(argv):
    ray_cells.run_cells(
        sweeping.make_cells(folder, [], range(3)), folder,
        lambda cell: sweeping.cell_command(cell, ["x.gin"], ["f.steps = 100000"],
                                           prefix=[sys.executable, script]),
        ray_cells.Settings(address))
del sys.argv[1:]
command_line.run(main, resumes=True)
'''


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_runs_too(stand_in, tmp_path, cluster, repository, number):
    cells, _ = stand_in('sweep', 0, number=3)
    (tmp_path / 'sweep.py').write_text(SWEEP)
    with _second_node(cluster):
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / 'sweep.py'), str(tmp_path / 'sweep'),
             str(tmp_path / 'train.py'), cluster.address], text=True, stderr=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': str(repository)})
        _until(lambda: sum((cell.folder / 'state').exists() for cell in cells) == 2)
        process.send_signal(number)
        _, said = process.communicate(timeout=300)
    # Ray makes a plain interrupt of a SIGTERM that comes while it waits.
    assert process.returncode in (128 + number, 128 + signal.SIGINT)
    assert 'Ray: stopping 3 runs' in said
    assert said.strip().splitlines()[-1].endswith('the same command goes on where it stopped')
    assert sum((cell.folder / 'ended_gently').exists() for cell in cells) == 2
    states = [path.read_text() for path in tmp_path.glob('sweep/*/*/state')]
    time.sleep(0.5)
    assert states == [path.read_text() for path in tmp_path.glob('sweep/*/*/state')]
    assert not list((tmp_path / 'sweep' / 'logs').glob('.*'))
