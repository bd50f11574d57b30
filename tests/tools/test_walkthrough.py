"""docs/better_and_faster.md: every cell runs, one after another, on the demo's data."""
import re

import pytest


@pytest.mark.slow
def test_every_cell_runs(repository, tmp_path, typed):
    # The demo stands for the reader's model; its smallest form is a fifth of the whole test.
    typed('python tools/demo.py --smallest')
    page = (repository / 'docs' / 'better_and_faster.md').read_text(encoding='utf-8')
    cells = re.findall(r'```(bash|python)\n(.*?)```', page, re.S)
    assert [kind for kind, _ in cells].count('bash') >= 6 and cells[-1][0] == 'python'
    done = typed(''.join(text if kind == 'bash' else f"python - <<'CELL'\n{text}CELL\n"
                         for kind, text in cells))
    for name in ('doctor.html', 'batches/batches.html', 'better/report.html',
                 'exported/model_int8.tflite', 'exported/saved_model.pb',
                 'maps/train_00000.png', 'train_00000_overlay.png'):
        assert (tmp_path / 'runs' / name).is_file(), name
    assert 'the graphs are equal op by op' in done.stdout
