"""docs/better_and_faster.md: every cell runs, one after another, on the demo's data."""
import os
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_every_cell_runs(repository, tmp_path):
    for name in ('tools', 'gin', 'tf_advseg'):
        (tmp_path / name).symlink_to(repository / name)
    environment = {**os.environ, 'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}

    def run(script):
        return subprocess.run(['bash', '-eu', '-c', script], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, check=False)

    # The demo stands for the reader's model; its smallest form is a fifth of the whole test.
    demo = run('python tools/demo.py --smallest')
    assert demo.returncode == 0, demo.stderr[-3000:]
    page = (repository / 'docs' / 'better_and_faster.md').read_text(encoding='utf-8')
    cells = re.findall(r'```(bash|python)\n(.*?)```', page, re.S)
    assert [kind for kind, _ in cells].count('bash') >= 6 and cells[-1][0] == 'python'
    done = run(''.join(text if kind == 'bash' else f"python - <<'CELL'\n{text}CELL\n"
                       for kind, text in cells))
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ('doctor.html', 'batches/batches.html', 'better/report.html',
                 'exported/model_int8.tflite', 'exported/saved_model.pb',
                 'maps/train_00000.png', 'train_00000_overlay.png'):
        assert (tmp_path / 'runs' / name).is_file(), name
    assert 'the graphs are equal op by op' in done.stdout
