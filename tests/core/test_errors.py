"""What a user reads when a name is wrong."""
import pytest

from tf_advseg.core.errors import LONGEST, UserError, nearest, require_one_of, spelled, suggest


def test_message_is_one_line():
    assert str(UserError('a\n  b: c\t d\n')) == 'a b: c d'


def test_a_message_has_an_end():
    message = str(UserError(f'list.txt: lists "{"x" * 10 ** 6}", but there is none'))
    assert len(message) == LONGEST
    assert message.startswith('list.txt: lists "x') and message.endswith('x", but there is none')


@pytest.mark.parametrize('name, expected', [
    ('patiance', 'patience'), ('PATIENCE', 'patience'), ('pat', 'patience'),
    ('load.patiense', 'load.patience'), ('patience', 'patience'), ('qqqqqq', None)])
def test_nearest(name, expected):
    choices = ['patience', 'load.patience', 'beta_u'] if name.startswith('load') \
        else ['patience', 'beta_u']
    assert nearest(name, choices) == expected


def test_nearest_looks_at_the_last_part_of_a_dotted_name():
    assert nearest('patiance', ['Controller.patience', 'Controller.beta_u']) == \
        'Controller.patience'


def test_suggest():
    assert suggest('mirorred', ['mirrored', 'tpu']) == ' Did you mean "mirrored"?'
    assert suggest('xyz', ['mirrored', 'tpu']) == ''
    assert suggest('xyz', []) == ''


def test_require_one_of():
    assert require_one_of('strategy', 'tpu', ['mirrored', 'tpu']) == 'tpu'
    with pytest.raises(UserError) as caught:
        require_one_of('strategy', 'mirored', ['mirrored', 'tpu'])
    assert str(caught.value) == ('unknown strategy "mirored". Did you mean "mirrored"? '
                                 'Known: mirrored, tpu.')


def test_names_that_are_not_utf8_are_spelled():
    name = b'caf\xe9.jpg'.decode('utf-8', 'surrogateescape')
    assert str(UserError(f'{name}: broken')) == 'caf\\xe9.jpg: broken'
    assert spelled('plain é') == 'plain é' and spelled('\ud800') == '\\ud800'
