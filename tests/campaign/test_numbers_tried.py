"""How many inputs the fuzzing tests try: as documented, and enough."""
import importlib.util

FEWEST, FEWEST_SLOW = 30, 200


def marked(path):
    """(by default, more with --slow) of a file: the sums of its tests' parameter `number`."""
    spec = importlib.util.spec_from_file_location(f'numbers_of_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [0, 0]
    for test in vars(module).values():
        for mark in getattr(test, 'pytestmark', ()):
            names = mark.args[0].split(', ') if mark.name == 'parametrize' else ()
            for values in mark.args[1] if 'number' in names else ():
                slow = any(one.name == 'slow' for one in getattr(values, 'marks', ()))
                values = getattr(values, 'values', values)
                values = values if isinstance(values, tuple) else (values,)
                found[slow] += values[names.index('number')]
    return found


def test_the_number_is_the_documented_one(repository):
    tests = repository / 'tests'
    paths = [*sorted(tests.rglob('test_fuzzing_*.py')), tests / 'core' / 'test_archives.py']
    found = [marked(path) for path in paths]
    assert len(found) >= 5 and all(few and more for few, more in found)
    few, more = map(sum, zip(*found))
    assert few >= FEWEST and more >= FEWEST_SLOW
    assert f"pytest's last lines) | {few:,} | {more:,} |" in (
        repository / 'docs' / 'internals.md').read_text('utf-8')
