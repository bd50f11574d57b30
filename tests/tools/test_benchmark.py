"""tools/benchmark.py: seconds read off a run, a measurement, made-up images, memory."""
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core import configuration, files
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import benchmarking
from tf_advseg.lookahead import map_buffer

TINY = ("build_discriminator.name = 'small_cnn'", 'build_discriminator.alpha = 0.25',
        'input_encoding.size = 32', 'deeplab_mobilenet_v2.depth_multiplier = 0.25',
        'lookahead.reestimate_batches = 1', 'lookahead.balance_batches = 1',
        'lookahead.min_epochs = 1', 'lookahead.max_epochs = 1', 'lookahead.batch_size = 2')


def test_the_seconds_of_a_run(call, made_run, capsys):
    call('benchmark', 'load', f'--workdir={made_run.path}')
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ('2 propagations in 1 cycles, 3 epochs of the discriminator, 3 map sets')
    rows = {line[:22].strip(): line[22:].split() for line in lines[3:10]}
    assert rows['generator step'] == ['2.0000', '4.00', '20.0', '%']
    assert rows['map generation'] == ['1.00', '5.0', '%']
    assert rows['discriminator training'] == ['11.00', '55.0', '%']
    assert rows['the rest'] == ['1.00', '5.0', '%']
    assert rows['together'] == ['3.5000', '20.00', '100.0', '%']
    assert any(line.startswith('the rest: 5.0 %, within the limit of 5 %') for line in lines)


def test_a_rest_that_is_too_large_is_said():
    costs = benchmarking.Costs({'generator step': 8.0, 'the rest': 1.5, 'balancing': 0.5}, 4, 2)
    assert costs.rest_percent == pytest.approx(20.0)
    assert benchmarking.rest_text(costs).startswith('the rest: 20.0 %, OVER the limit')


@pytest.mark.slow
def test_a_measurement_leaves_the_first_cycle_out(made_run, tmp_path):
    costs = benchmarking.measure(
        tmp_path / 'run', [], [*made_run.gin, *TINY, 'controller.patience = 3'],
        tf.distribute.get_strategy())
    assert costs.cycles == 1 and costs.propagations >= 3 and costs.epochs == 1
    assert costs.maps in (1, 2)
    assert all(costs.seconds[part] > 0 for part in benchmarking.PARTS
               if part not in ('screening', 'backbone maps'))
    configuration.parse([], [])


@pytest.mark.slow
def test_memory_at_a_small_size(tmp_path):
    memory = benchmarking.measure_memory(
        tmp_path / 'run', [], TINY, tf.distribute.get_strategy(), images=8, side=33,
        num_classes=3, steps=1, real_maps=2, show=False)
    assert 0 < memory.start <= memory.peak and memory.within
    # 3 slots of 8 + 2 maps of 3x3x3 half-precision logits, index and manifest.
    assert 3 * 10 * 27 < memory.buffer < 60_000
    assert '3 slots of 10 maps of 3x3x3 (2 of each drawn by the network' in memory.text()
    configuration.parse([], [])


def test_limits_that_are_kept_and_passed():
    assert benchmarking.peak_memory() > 2 ** 26
    assert benchmarking.Memory(1, 2 ** 31, 10 ** 9, 'done').within
    over = benchmarking.Memory(1, 5 * 2 ** 30, 10, 'done')
    assert not over.within and 'OVER the limit of 4 GiB' in over.text()
    over = benchmarking.Memory(1, 2 ** 30, 1_600_000_000, 'done')
    assert not over.within and '1.600 GB, OVER the limit of 1.5 GB' in over.text()


@pytest.mark.parametrize('kind, shape', [('soft', (3, 4, 5)), ('hard', (9, 9)),
                                         ('quantised', (3, 4, 5))])
def test_random_maps_are_of_the_form_a_slot_takes(kind, shape, tmp_path):
    buffer = map_buffer.MapBuffer(tmp_path, kind=kind)
    items = [(f'p{i}', 'train') for i in range(3)]
    slot = buffer.write_slot('g0', benchmarking._random_maps(items, shape, kind, 0), num_maps=3)
    assert slot.shapes == (shape,) * 3 and slot.image_ids == ('p0', 'p1', 'p2')
    assert not np.array_equal(slot.read('p0'), slot.read('p1'))
    # Noise: what is on disk is the most a buffer of this size takes.
    bound = buffer.estimate_bytes(3, shape).slot
    assert slot.bytes() <= bound


def test_made_up_images_are_jpeg_and_depend_on_their_id_alone():
    reader = benchmarking.MadeUpReader(3, 2, 1, 40, 5)
    assert {name: len(ids) for name, ids in reader.splits().items()} == {
        'train': 3, 'val': 2, 'test': 1}
    image, label = reader.load('train_00001')
    again, _ = benchmarking.MadeUpReader(9, 9, 9, 40, 5).load('train_00001')
    np.testing.assert_array_equal(image, again)
    assert image.shape == (40, 40, 3) and label.shape == (40, 40) and label.max() < 5
    assert reader.encoded_image('train_00001')[:2] == b'\xff\xd8'
    assert not np.array_equal(image, reader.load('train_00002')[0])


def test_mistakes_are_one_line(call, own_folder, run_copy):
    files.write_json(run_copy / 'lookahead' / 'state.json', {'controller': []})
    for words, text in ((['laod'], 'unknown benchmark "laod". Did you mean "load"?'),
                        ([], 'name what to measure: load, '),
                        (['load'], 'nothing to measure'),
                        (['lr_range'], 'lr_range: add --gin_file=CONFIGURATION'),
                        (['images', '--images=99'], 'images: 9 images make no data set'),
                        (['load', f'--workdir={own_folder}'], 'not a run directory'),
                        (['load', f'--workdir={run_copy}'], 'state.json: does not hold what it'),
                        (['load', '--gin_file=nix.gin'], 'nix.gin: no such gin file')):
        with pytest.raises(UserError) as caught:
            call('benchmark', *words)
        assert text in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.slow
def test_inference_beside_a_plain_graph(call, capsys):
    call('benchmark', 'inference', '--model=deeplab_mobilenet_v2', '--output_stride=8',
         '--input_size=65', '--repeats=2',
         '--gin_param=deeplab_mobilenet_v2.depth_multiplier=0.25')
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('65x65, medians of 2 runs in turns, float32, oneDNN o')
    assert lines[1].split()[-1] == 'share'
    name, figures = lines[3].split('stride 8')
    assert name == 'deeplab_mobilenet_v2, '
    plain, exported, ratio, verdict = figures.split()[:4]
    assert float(plain) > 0 and float(exported) > 0
    assert verdict == ('kept' if float(ratio) <= 1 else 'OVER') or ratio == '1.00'
    configuration.parse([], [])


def test_the_plain_graph_is_plain_and_computes_the_network():
    from tf_advseg.experiments.benchmarks import inference_benchmark
    from tf_advseg.models import deeplab, resize
    model = inference_benchmark.randomise(deeplab.deeplab_mobilenet_v2(
        5, 8, depth_multiplier=0.25, crop_size=65))
    definition, feed, fetch = inference_benchmark.plain_graph(model, (65, 65))
    kinds = [node.op for node in definition.node]
    # A batch norm after each of the 54 convolutions but the logits, and no variable.
    assert kinds.count('FusedBatchNormV3') == 54
    assert kinds.count('Conv2D') + kinds.count('DepthwiseConv2dNative') == 55
    assert 'SpaceToBatchND' in kinds and not {'VarHandleOp', 'ReadVariableOp'} & set(kinds)
    assert kinds.count('ArgMax') == 1 and (feed, fetch) == ('image:0', 'Identity:0')
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3), np.uint8)
    ids = inference_benchmark.plain_runner(model, (65, 65))(image)
    expected = tf.argmax(resize.resize_bilinear(model(tf.constant(image)), [65, 65]), -1)
    assert np.mean(ids == expected) > 0.999


def test_turns_are_taken():
    from tf_advseg.experiments.benchmarks import inference_benchmark
    calls = []
    seconds = inference_benchmark.interleaved([lambda i=i: calls.append(i) for i in range(3)], 4)
    assert seconds.shape == (3, 4) and (seconds >= 0).all()  # 0 where the clock is coarse
    timed = calls[3 * inference_benchmark.WARM_UP:]
    assert sorted(timed) == sorted(4 * [0, 1, 2])
    assert {first for first in timed[::3]} == {0, 1, 2}


def test_no_such_network_to_time(call):
    with pytest.raises(UserError, match='Did you mean "deeplab_xception"'):
        call('benchmark', 'inference', '--model=deeplab_xcept')


@pytest.mark.parametrize('ratio', [5.5, 4.5])
def test_an_input_that_is_too_slow_is_an_error(call, capsys, monkeypatch, ratio):
    from tf_advseg.experiments.benchmarks import input_benchmark
    rate = input_benchmark.Rate('hung', (321, 321), 10 * ratio, 10.0, ratio)
    monkeypatch.setattr(input_benchmark, 'measure',
                        lambda strategy, network, repeats: iter([rate] * repeats))
    if ratio > 5:
        call('benchmark', 'input', '--repeats=2')
    else:
        with pytest.raises(UserError, match='less than 5 times as fast as the training step'):
            call('benchmark', 'input', '--repeats=2')
    rows = capsys.readouterr().out.splitlines()[3:]
    assert len(rows) == 2 and all(row.startswith('hung') for row in rows)
    assert all(row.endswith('NOT MET') == (ratio < 5) for row in rows)


def test_a_range_test_prints_and_draws_and_leaves_no_run(call, made_run, tmp_path, monkeypatch,
                                                         capsys):
    monkeypatch.chdir(tmp_path)
    words = [f'--gin_param={line}' for line in (
        *made_run.gin, "experiment.method = 'cross_entropy'", "experiment.network = 'farabet'",
        'farabet.hidden = 4', 'stage_one.batch_size = 2', 'lr_range.steps = 10')]
    call('benchmark', 'lr_range', '--gin_file=datasets/shapes.gin', *words, '--output=rates.png')
    assert (tmp_path / 'rates.png').read_bytes()[:4] == b'\x89PNG'
    assert [path.name for path in tmp_path.iterdir() if path != made_run.path] == ['rates.png']
    said = capsys.readouterr().out
    assert 'steepest descent (suggested)' in said and 'written: rates.png' in said
    with pytest.raises(UserError, match='expected a PNG file'):
        call('benchmark', 'lr_range', '--gin_file=datasets/shapes.gin', *words, '--output=rates')


def test_made_up_images_are_square(call):
    with pytest.raises(UserError, match='--input_size=33x65: .*give one side'):
        call('benchmark', 'load_memory', '--input_size=33x65')


def test_the_help_fits_a_screen():
    from tools import benchmark
    from tf_advseg.core import command_line
    lines = command_line.help_text(benchmark.main).splitlines()
    assert len(lines) <= 27 and max(map(len, lines)) <= 100
    assert all(kind in benchmark.__doc__ for kind in benchmark.KINDS)


def test_the_forms_of_a_checkpoint_beside_each_other(call, deeplab_folder, made_run, tmp_path,
                                                     capsys):
    records = made_run.data.records
    for number, image_id in enumerate(made_run.data.test[:3]):
        Image.fromarray(records.load(image_id)[0]).save(tmp_path / f'{number}.png')
    call('benchmark', 'runtimes', f'--checkpoint={deeplab_folder[1]}', '--repeats=1',
         f'--input={tmp_path}', f'--calibration={tmp_path / "0.png"}')
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('49x49, one image, medians of 1 runs')
    assert f'on 3 images of {tmp_path}; int8 calibrated with 1 images of' in lines[0]
    rows = {cells[0].split(', ai-')[0].split(', tf.')[0]: cells[1:] for cells in (
        re.split(r'  +', line.strip()) for line in lines[3:])}
    exact = ['plain TF1 graph', 'SavedModel', 'TFLite float32']
    for name in exact:
        mean, worst = (float(cell.split()[0]) for cell in rows[name][2:])
        assert 99.8 < worst <= mean <= 100.0
    for name in ("TFLite int8, TensorFlow's own calibration", 'TFLite int8', 'TFLite float16'):
        mean, worst = (float(cell.split()[0]) for cell in rows[name][2:])
        assert float(rows[name][0]) > 0 and 0 <= worst <= mean <= 100.0


@pytest.mark.parametrize('words, message', [
    (['inference', '--checkpoint=x'], 'belongs to `benchmark runtimes`'),
    (['runtimes', '--input=x'], 'add --checkpoint'),
    (['runtimes', '--checkpoint=x', '--model=farabet'], 'says which network')])
def test_flags_of_runtimes_where_they_cannot_be(call, words, message):
    with pytest.raises(UserError, match=message):
        call('benchmark', *words)


def test_runtimes_of_no_checkpoint_is_one_line_in_a_process_of_its_own(repository):
    """There nothing is imported yet, and gin, once parsed, takes no more configurables."""
    done = subprocess.run(
        [sys.executable, repository / 'tools' / 'benchmark.py', 'runtimes',
         '--checkpoint=/no/such'], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith('error: ')] == [
        done.stderr.strip()] and 'no such checkpoint' in done.stderr
