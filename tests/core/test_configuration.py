"""Gin: found from any directory, every mistake one line with the nearest name."""
import gin
import pytest
from hypothesis import given, settings, strategies as st

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError


@gin.configurable(module='core_test')
def gadget(patience=50, beta_u=0.001, cycles=None):
    """A configurable of this test."""
    return patience, beta_u, cycles


@gin.configurable(module='core_test', denylist=['hidden'])
def network(depth=1, hidden=0, **extra):
    """A configurable that takes any keyword."""
    return depth, hidden, extra


@gin.configurable(module='core_test')
def broken(inner=None):
    """A configurable whose input is bad."""
    raise UserError(f'a.png: is broken\n  {inner}')


@gin.configurable(module='core_test')
def outer(call=None):
    """A configurable that calls another."""
    return call()


@pytest.fixture(autouse=True)
def clean():
    """Every test starts and leaves with an empty, unlocked configuration."""
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A gin folder with a piece and a paper that includes it, and a foreign directory."""
    folder = tmp_path / 'checkout' / 'gin'
    (folder / 'models').mkdir(parents=True)
    (folder / 'papers' / 'load').mkdir(parents=True)
    (folder / 'models' / 'small.gin').write_text('gadget.patience = 7\ngadget.beta_u = %b\n')
    (folder / 'papers' / 'load' / 'shapes.gin').write_text(
        "include 'models/small.gin'\nb = 0.25\ngadget.patience = 8\n")
    monkeypatch.setattr(configuration, 'gin_root', lambda: folder)
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return folder


def problem(*args):
    """Returns the one-line message of a parse that must fail."""
    with pytest.raises(UserError) as caught:
        configuration.parse(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('name', ['gin/papers/load/shapes.gin', 'papers/load/shapes.gin'])
def test_files_and_includes_are_found_from_any_directory(root, name, capfd):
    configuration.parse([name], ['gadget.cycles = 3'])
    assert gadget() == (8, 0.25, 3)
    assert 'gadget.patience = 8' in configuration.config_text()
    assert 'gadget.cycles = 3' in configuration.operative_text()
    with pytest.raises(RuntimeError):  # locked
        gin.bind_parameter('gadget.cycles', 4)
    assert capfd.readouterr().err == ''


def test_a_local_file_comes_first_but_includes_mean_the_package(root, tmp_path):
    local = tmp_path / 'elsewhere' / 'models'
    local.mkdir()
    (local / 'small.gin').write_text('gadget.patience = 99\n')
    assert configuration.find_gin_file('models/small.gin') == local / 'small.gin'
    configuration.parse(['papers/load/shapes.gin'], ['gadget.patience = 1'])
    assert gadget() == (1, 0.25, None)
    (local / 'own.gin').write_text('gadget.patience = 98\n')
    configuration.parse([], ["include 'models/own.gin'"])
    assert gadget()[0] == 98


def test_parsing_again_starts_afresh(root):
    configuration.parse([], ['gadget.patience = 1'])
    configuration.parse([], ['gadget.cycles = 2'])
    assert gadget() == (50, 0.001, 2)


def test_missing_file_gets_the_nearest(root):
    message = problem(['gin/papers/lod/shapes.gin'])
    assert message == ('gin/papers/lod/shapes.gin: no such gin file. '
                       'Did you mean "gin/papers/load/shapes.gin"?')
    assert 'Did you mean "gin/models/small.gin"?' in problem(['smal.gin'])
    assert 'is a folder' in problem([str(root)])


def test_missing_include_says_where_and_the_nearest(root):
    path = root / 'papers' / 'bad.gin'
    path.write_text("\ninclude 'models/smal.gin'\n")
    message = problem(['papers/bad.gin'])
    assert message.startswith(f'{path}:2: models/smal.gin: no such gin file.')
    assert 'Did you mean "gin/models/small.gin"?' in message


MISTAKES = {
    'gaget.patience = 3': 'no configurable is called "gaget". Did you mean "gadget"?',
    'gadget.patiance = 3': '"gadget" has no parameter "patiance". Did you mean "patience"?',
    'a_scope/gadget.patiance = 3': 'Did you mean "patience"?',
    'gadget.cycles = @netwrok()': 'called "netwrok". Did you mean "network"?',
    'network.hidden = 1': 'denylisted',
    'gadget.cycles = %nowhere': 'uses %nowhere, which no file sets',
    'gadget.cycles = [1,': 'is not closed',
    'gadget.cycles = text': "token 'text' (text is written in quotes)",
    'gadget.cycles = /a/path': 'Unable to parse value (text is written in quotes)',
    'gadget cycles': 'cannot be parsed as gin',
    'gadget.cycles = {[]: 1}': "unhashable type: 'list'",
    'gadget.cycles = %gin.REQUIRED': 'not subsequently overridden',
    'import tf_advseg.core.nowhere': "No module named 'tf_advseg.core.nowhere'",
}


@pytest.mark.parametrize('line', MISTAKES)
def test_mistake_in_a_file_is_one_line_with_the_place(root, line):
    path = root / 'bad.gin'
    path.write_text(f'gadget.beta_u = 1\n\n{line}\n')
    message = problem([str(path)])
    assert MISTAKES[line] in message
    if 'REQUIRED' not in line and '%nowhere' not in line:  # found only when all is read
        assert message.startswith(f'{path}')
    if 'is called' in MISTAKES[line] or 'has no parameter' in MISTAKES[line]:
        assert message.startswith(f'{path}:3: ')


@pytest.mark.parametrize('line', MISTAKES)
def test_mistake_in_a_binding_is_one_line(line):
    message = problem([], [line])
    assert MISTAKES[line] in message
    if 'REQUIRED' not in line and '%nowhere' not in line:
        assert message.startswith(f'--gin_param="{line}": ')


def test_a_macro_nobody_uses_is_a_mistake_on_the_command_line(root):
    configuration.parse(['papers/load/shapes.gin'], ['b = 0.5'])
    assert gadget()[1] == 0.5
    message = problem(['papers/load/shapes.gin'], ['patience = 3'])
    assert message.startswith(
        '--gin_param="patience = 3": nothing in the configuration uses "patience". Did you mean "')
    assert message.endswith('.patience"?')  # whose, depends on what else is imported
    (root / 'spare.gin').write_text('spare = 1\n')  # a piece may offer one nobody takes
    configuration.parse(['spare.gin'])


def test_binary_file(root):
    (root / 'image.gin').write_bytes(b'\xff\xd8\xff\xe0')
    assert 'not a text file' in problem(['image.gin'])


@pytest.mark.parametrize('content', [b'\xff\xd8', b'gadget cycles', b'gadget.cycles = [', None])
def test_a_kept_configuration_that_is_none_is_named(tmp_path, content):
    path = tmp_path / 'config.gin'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        configuration.read(path)
    assert str(caught.value).startswith(f'{path}: ') and '\n' not in str(caught.value)
    path.write_text('gadget.patience = 3\n')
    assert configuration.bindings(configuration.read(path)) == {'core_test.gadget.patience': 3}


def test_a_user_error_inside_configurables_stays_one_line():
    configuration.parse([], ['outer.call = @a_scope/broken', 'broken.inner = 3'])
    with pytest.raises(UserError) as caught:
        outer()
    assert str(caught.value) == caught.value.message == 'a.png: is broken 3'
    with pytest.raises(UserError) as again:
        raise UserError(f'while training: {caught.value}')
    assert str(again.value) == 'while training: a.png: is broken 3'


def test_gin_is_left_as_it_was(root):
    from gin import config
    before = list(config._FILE_READERS), list(config._LOCATION_PREFIXES)
    problem([], ["include 'nowhere.gin'"])
    assert (list(config._FILE_READERS), list(config._LOCATION_PREFIXES)) == before


def test_a_setting_that_nothing_reads_is_known_after_the_calls():
    configuration.parse([], ['gadget.patience = 7', 'a/gadget.cycles = 2', 'network.depth = 3'])
    assert len(configuration.unread()) == 3
    with gin.config_scope('a'):
        assert gadget() == (7, 0.001, 2)
    assert configuration.unread() == ['core_test.network.depth']
    assert configuration.scoped_bindings('a', 'gadget') == ['a/core_test.gadget.cycles']
    assert configuration.scoped_bindings('a', 'network') == []
    configuration.parse([], [])


def test_differences(root):
    configuration.parse([], ['gadget.patience = 1', 'gadget.cycles = [1, 2]'])
    old = configuration.config_text()
    configuration.parse([], ['gadget.cycles = [1, 3]', 'network.anything = "x"'])
    new = configuration.config_text()
    assert configuration.differences(old, old) == []
    assert configuration.differences(old, new) == [
        'core_test.gadget.cycles: was [1, 2], now [1, 3]',
        'core_test.gadget.patience: was 1, now not set',
        "core_test.network.anything: was not set, now 'x'"]
    for option in ('cycles', 'gadget.cycles', 'core_test.gadget.cycles'):
        assert not any('cycles' in line for line in configuration.differences(old, new, [option]))
    assert len(configuration.differences(old, new, ['ycles', 'head.cycles'])) == 3


def test_differences_look_at_meaning_not_at_text():
    old = '# a comment\nx.rate = 1\nm = 3\ns/x.y = @z()\ncore_test.gadget.patience = 1\n'
    new = 'm = 3\n\ngadget.patience = 1\nx.rate = \\\n    1.0\ns/x.y = @z()'
    assert configuration.differences(old, new) == []
    assert configuration.differences(old, new.replace('@z()', '@w()').replace('m = 3', 'm = 4')) \
        == ['m: was 3, now 4', 's/x.y: was @z(), now @w()']
    assert configuration.differences('m = 3', 'm = 4', may_change=['m']) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=2), max_leaves=5)


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES)
def test_any_value_survives_the_text(first, second):
    gin.clear_config()
    gin.bind_parameter('gadget.cycles', first)
    old = configuration.config_text()
    gin.clear_config()
    gin.bind_parameter('gadget.cycles', second)
    changed = configuration.differences(old, configuration.config_text())
    assert bool(changed) == (first != second)


def test_what_nothing_binds_is_none():
    """Of a configurable of which another parameter is bound, and of one with no binding at all."""
    configuration.parse([], ['gadget.patience = 3'])
    assert configuration.bound('gadget.patience') == 3
    assert configuration.bound('gadget.cycles') is None
    assert configuration.bound('network.depth') is None
    with pytest.raises(UserError, match='gadgit.patience'):
        configuration.bound('gadgit.patience')
