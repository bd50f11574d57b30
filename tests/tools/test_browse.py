"""tools/browse.py: the batches of a run, before anything is trained."""
import json

import numpy as np
import pytest

from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.train import browsing

OPTIONS = {'num_train': 12, 'num_val': 4, 'num_test': 2, 'size': (49, 49), 'smallest': (40, 40)}
WORDS = [f'--gin_param={text}' for text in (
    'experiment.crop_size=49', f'dataset.options={OPTIONS!r}',
    'deeplab_mobilenet_v2.depth_multiplier=0.25')]


@pytest.fixture(autouse=True)
def plain_configuration():
    yield
    configuration.parse([], [])


def test_the_batches_of_every_stage_are_those_of_the_run(call, tmp_path, monkeypatch, capsys):
    kept = {}
    real = browsing._shown

    def keep(title, step, batch, spec):
        kept[title, step] = {name: value.numpy() for name, value in batch.items()}
        return real(title, step, batch, spec)

    monkeypatch.setattr(browsing, '_shown', keep)
    output = tmp_path / 'out'
    call('browse', '--gin_file=gin/demo.gin', *WORDS, '--steps=2', '--first_step=1', '--seed=3',
         f'--output={output}')
    printed = capsys.readouterr().out
    assert f'written: {output}/batches.html' in printed
    assert set(kept) == {(title, step) for title in ('Stage 1', 'LoAd: the segmentor')
                         for step in (1, 2)}
    record = json.loads((output / 'batches.json').read_text())
    for one in record['batches']:
        labels = kept[one['of'], one['step']]['label']
        assert one['pixels'] == [*np.bincount(labels.ravel(), minlength=256)[:8],
                                 np.count_nonzero(labels == 255)]
    page = (output / 'batches.html').read_text()
    assert page.count('data:image/jpeg') == 4 and 'Stage 1: step 2' in page
    name = kept['Stage 1', 1]['image_id'][0].decode()
    assert name.startswith('train_')
    assert list((output / 'tensorboard').glob('events*'))

    # The same step of a later look, and another one where the seed is another.
    first = kept['Stage 1', 2]['image']
    kept.clear()
    call('browse', '--gin_file=gin/demo.gin', *WORDS, '--steps=1', '--first_step=2', '--seed=3',
         f'--output={output}')
    np.testing.assert_array_equal(kept['Stage 1', 2]['image'], first)
    kept.clear()
    call('browse', '--gin_file=gin/demo.gin', *WORDS, '--steps=1', '--first_step=2', '--seed=4',
         f'--output={output}')
    assert np.abs(kept['Stage 1', 2]['image'] - first).max() > 0


def test_two_views_of_unlabelled_images(call, tmp_path, capsys):
    output = tmp_path / 'out'
    call('browse', '--gin_file=gin/few_labels/shapes_50_of_400.gin', *WORDS, '--steps=1',
         '--gin_param=semi_supervised.fraction=0.5', f'--output={output}')
    page = (output / 'batches.html').read_text()
    assert 'Consistency: the segmentor, with unlabelled images: step 1' in page
    assert '6 labelled, 6 unlabelled' in capsys.readouterr().out


def test_images_with_parts_of_others_say_so_and_show_their_labels(call, tmp_path, monkeypatch):
    """Of Stage 1, and of the method's batches with unlabelled images."""
    sheets, real = [], browsing.contact_sheet.contact_sheet
    monkeypatch.setattr(browsing.contact_sheet, 'contact_sheet', lambda rows, *given, **words: (
        sheets.append(rows), real(rows, *given, **words))[1])
    call('browse', '--gin_file=gin/few_labels/shapes_50_of_400.gin', *WORDS, '--steps=1',
         '--gin_param=semi_supervised.fraction=0.5', f'--output={tmp_path / "out"}',
         '--gin_param=stage_one.epochs=1', "--gin_param=stage_one.augmentation='flip+cutmix'", '--gin_param=cutmix.probability=1.0',
         "--gin_param=adversarial_stage.augmentation='hung+photometric+classmix'",
         '--gin_param=classmix.probability=1.0')
    mixed = [[one.caption for one in rows if ', with parts of train_' in one.caption]
             for rows in sheets]
    labelled = [[one.caption for one in rows if one.label is not None] for rows in sheets]
    assert len(sheets) > 1 and mixed[0] == labelled[0] and all(mixed)
    assert all(set(those) <= set(these) for those, these in zip(mixed, labelled))


def test_mistakes_are_one_line_and_nothing_is_left(call, tmp_path):
    output = tmp_path / 'out'
    for words, text in (((), '--gin_file'), (('--gin_file=gin/demo.gin',), '--output=DIR'),
                        (('--gin_file=gin/demo.gin', f'--output={output}', *WORDS,
                          '--gin_param=experiment.method="cross_entropy"',
                          '--gin_param=stage_one.epochs=0',
                          '--gin_param=stage_one.weighted_epochs=0'), 'takes a step')):
        with pytest.raises(UserError, match=text) as caught:
            call('browse', *words)
        assert '\n' not in str(caught.value)
    assert not list(tmp_path.iterdir())
