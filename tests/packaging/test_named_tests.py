"""The tests that the documentation names as evidence are there."""
import re

import pytest

PAGES = ['README.md', 'WORKSPACE.md', 'docs']
NAMED = re.compile(r'\b(tests/[\w/]+\.py)(?:::(\w+))?')


@pytest.fixture(name='named')
def _named(repository):
    pages = [path for name in PAGES for path in (
        [repository / name] if name.endswith('.md') else sorted((repository / name).rglob('*.md')))]
    return [(page.name, *found) for page in pages
            for found in NAMED.findall(page.read_text(encoding='utf-8'))]


def test_every_test_that_a_page_names_is_there(named, repository):
    assert sum(bool(test) for _, _, test in named) >= 20
    missing = [(page, path, test) for page, path, test in named
               if not (repository / path).is_file()
               or test and f'\ndef {test}(' not in (repository / path).read_text('utf-8')]
    assert not missing
