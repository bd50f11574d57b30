"""docs/protocol.md: its commands run, one after another, and its page is filled in."""
import re
import textwrap

import pytest

from tf_advseg.core import files


@pytest.mark.slow
def test_every_command_runs(repository, tmp_path, typed):
    page = (repository / 'docs' / 'protocol.md').read_text(encoding='utf-8')
    blocks = [block for block in re.findall(r'```\n(.*?)```', page, re.S)
              if block.startswith('python')]
    arm, = re.findall(r'```\n(Luc, weight 1: .*?)```', page, re.S)
    marked = '\n'.join(textwrap.dedent(text) for text in re.findall(
        r'(?m)^    <!--.*\n(?:    .*\n)+', page))
    assert len(blocks) == 2 and marked.count('<!--') == 3
    typed(blocks[0])
    (tmp_path / 'more.cells').write_text(
        (repository / 'gin/protocols/smallest.cells').read_text(encoding='utf-8') + arm)
    table = typed(blocks[0].replace('gin/protocols/smallest.cells', 'more.cells')).stdout
    assert '8 runs, 2 to run' in table and 'Luc, weight 1' in table
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'notes' / 'page.md').write_text(f'# Notes\n\n{marked}')
    typed('python tools/sweep.py --update=notes/page.md')
    assert '| Luc, weight 1 | control (CE) | 2 |' in (tmp_path / 'notes/page.md').read_text()
    assert (tmp_path / 'notes' / 'gains.png').is_file()
    assert 'Consistency: Consistency' in typed(blocks[1]).stdout
    rows = [line for line in (tmp_path / 'runs/small_protocol/cells.jsonl').read_text().split('\n')
            if line]
    assert len(rows) == 8
    scores = [files.read_json(tmp_path / f'runs/small_protocol/{cell}/seed1/results.json')
              ['models']['control (CE)'] for cell in ('Luc', 'Consistency', 'LoAd')]
    assert scores[0] == scores[1] == scores[2]  # one control
