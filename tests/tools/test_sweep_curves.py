"""tools/sweep.py --curves: several runs in one chart."""
from logged_runs import evaluated, make_run
import pytest

from tf_advseg.core.errors import UserError


@pytest.fixture
def luc(tmp_path):
    return make_run(tmp_path / 'luc', evaluated('luc', ((10, 0.5), (20, 0.625))))


def test_the_tool_draws_finished_runs_and_runs_under_way(call, capsys, tmp_path, luc):
    call('sweep', f'--runs={luc}', f'--curves={tmp_path / "a.png"}')
    out = capsys.readouterr().out
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
    assert 'luc' in out and '62.50' in out and 'runs for' not in out


@pytest.mark.parametrize('words, text', [
    (('--curves=a.svg',), 'expected a PNG file, as curves.png'),
    (('--curves=a.png', '--measures=miou'), 'tables nothing: leave out --measures'),
    (('--curves=a.png', '--keep=k', '--chart=b.png'), 'leave out --keep, --chart'),
    (('--curves=a.png', '--seeds=0'), 'leave out --seeds'),
    (('--curves=nowhere/a.png',), 'no folder nowhere')])
def test_a_question_that_has_no_answer_is_one_line(call, luc, words, text, monkeypatch):
    monkeypatch.chdir(luc)
    with pytest.raises(UserError, match=text) as caught:
        call('sweep', f'--runs={luc}', *words)
    assert '\n' not in str(caught.value) and not list(luc.glob('*.png'))


def test_what_is_no_run_is_refused(call, tmp_path):
    (tmp_path / 'kept.jsonl').write_text('{}\n')
    for path, text in (('kept.jsonl', 'is a file'), ('', 'not a run directory')):
        with pytest.raises(UserError, match=text):
            call('sweep', f'--runs={tmp_path / path}', f'--curves={tmp_path / "a.png"}')
