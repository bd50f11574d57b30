"""constraints.txt: one pin for each package and Python, and it holds what setup.py asks for."""
import ast
import re
import shutil
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tf_advseg.core import lanes

REFERENCE, CURRENT = ('3.9', '3.10', '3.11'), ('3.12', '3.13')
PYTHONS = REFERENCE + CURRENT


def pins(repository, python):
    """Returns {name: version} of constraints.txt for one Python version."""
    found = {}
    for line in (repository / 'constraints.txt').read_text(encoding='utf-8').splitlines():
        if not line or line.startswith('#'):
            continue
        requirement = Requirement(line)
        specifiers = list(requirement.specifier)
        assert len(specifiers) == 1 and specifiers[0].operator == '==', line
        if requirement.marker is None or requirement.marker.evaluate(
                {'python_version': python, 'python_full_version': f'{python}.0'}):
            name = canonicalize_name(requirement.name)
            assert name not in found, f'{name} is pinned twice for Python {python}'
            found[name] = specifiers[0].version
    return found


def setup_requirements(repository):
    """Returns the requirement strings of setup.py: those to install, the test and gpu extras."""
    tree = ast.parse((repository / 'setup.py').read_text(encoding='utf-8'))
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call)
                and getattr(node.func, 'id', '') == 'setup')
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    extras = ast.literal_eval(values['extras_require'])
    return ast.literal_eval(values['install_requires']) + extras['test'] + extras['gpu']


@pytest.mark.parametrize('python', PYTHONS)
def test_every_requirement_of_setup_py_is_pinned_and_met(repository, python):
    pinned, asked = pins(repository, python), []
    for text in setup_requirements(repository):
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({'python_version': python}):
            continue
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f'{text}, but {version} is pinned'
        asked.append(canonicalize_name(requirement.name))
    assert asked.count('tensorflow') == 2  # plain, and with the CUDA libraries


@pytest.mark.parametrize('python', REFERENCE)
def test_the_traps_of_the_reference_lane_are_avoided(repository, python):
    pinned = pins(repository, python)
    assert pinned['protobuf'].startswith('4.')
    assert pinned['numpy'].startswith('1.')
    assert int(pinned['setuptools'].split('.')[0]) < 81
    assert 'tf-keras' not in pinned
    assert len(pinned) > 70


@pytest.mark.parametrize('python', CURRENT)
def test_the_traps_of_the_current_lane_are_avoided(repository, python):
    pinned = pins(repository, python)
    assert pinned['tf-keras'].split('.')[:2] == pinned['tensorflow'].split('.')[:2]
    # Earlier ones import pkg_resources, which setuptools no longer has.
    assert tuple(map(int, pinned['tensorboard'].split('.')[:2])) >= (2, 21)
    assert 'tensorflow-addons' not in pinned
    assert len(pinned) > 70


@pytest.mark.parametrize('python', PYTHONS)
def test_the_versions_are_those_that_the_lanes_name(repository, python):
    lane = lanes.of_python(tuple(map(int, python.split('.'))))
    assert pins(repository, python)['tensorflow'] == lane.constraint
    assert tuple(map(int, lane.constraint.split('.')[:2])) == lane.tensorflow
    assert lanes.of_tensorflow(lane.constraint) == lane.name


@pytest.mark.slow
@pytest.mark.parametrize('python', PYTHONS)
def test_a_dry_run_resolves(repository, tmp_path, python):
    interpreter = shutil.which(f'python{python}')
    if interpreter is None or subprocess.run([interpreter, '-c', ''], check=False,
                                             capture_output=True).returncode:
        pytest.skip(f'no Python {python} here')
    subprocess.run([interpreter, '-m', 'venv', str(tmp_path / 'venv')], check=True)
    done = subprocess.run(
        [str(tmp_path / 'venv' / 'bin' / 'python'), '-m', 'pip', 'install', '--dry-run',
         '--ignore-installed', '-r', str(repository / 'constraints.txt')],
        text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    would = re.search(r'^Would install (.*)$', done.stdout, re.M)[1].split()
    names = {canonicalize_name(item.rsplit('-', 1)[0]) for item in would}
    assert names == set(pins(repository, python))
