"""The input beside a training step: what is compared, by what rule, on images of which kind."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.experiments.benchmarks import input_benchmark
from tf_advseg.experiments.benchmarks.input_benchmark import Rate, VocSizedReader

SMALL = ('deeplab_mobilenet_v2.depth_multiplier = 0.25',)


def test_made_up_images_are_as_large_and_as_heavy_as_vocs():
    reader = VocSizedReader(4)
    assert reader.splits() == {'train': ['p0000', 'p0001', 'p0002', 'p0003']}
    for image_id, size in zip(reader.splits()['train'], input_benchmark.SIZES):
        image, label = reader.load(image_id)
        assert image.shape == (*size, 3) and label.shape == size
        assert image.dtype == label.dtype == np.uint8 and label.max() < 21
        assert 3 <= len(np.unique(label)) <= 21
        encoded = reader.encoded_image(image_id)
        assert encoded[:2] == b'\xff\xd8' and 70_000 < len(encoded) < 150_000
        again, _ = VocSizedReader(9).load(image_id)
        np.testing.assert_array_equal(image, again)
    assert not np.array_equal(reader.load('p0000')[0], reader.load('p0001')[0])


def test_the_rule_and_the_table():
    met, missed = Rate('hung', (321, 321), 60.0, 10.0, 5.0), Rate('x', (9, 13), 40.0, 10.0, 4.99)
    assert met.met and not missed.met
    table = input_benchmark.table([met, missed], 7)
    assert [row[-1] for row in table.texts()[1:]] == ['met', 'NOT MET']
    assert table.texts()[2][:4] == ['x', '9x13', '40.0', '10.0']
    assert 'medians of 7 turns' in table.title


def rate_of_turns(strategy, monkeypatch):
    """Bursts of 2 batches of 2 and steps of 2 images, both run; the clock's part is made up."""
    def interleaved(functions, repeats):
        assert repeats == 3
        for function in functions:
            function()
        return np.array([[1.0, 2.0, 4.0], [4.0, 1.0, 1.0]])
    monkeypatch.setattr(input_benchmark.inference_benchmark, 'interleaved', interleaved)
    configuration.parse([], SMALL)
    rate, = input_benchmark.measure(strategy, repeats=3, cases=(('hung', (33, 49)),),
                                    batch_size=2, burst=2, images=3)
    assert (rate.recipe, rate.crop_size) == ('hung', (33, 49))
    return rate.delivered, rate.taken, rate.ratio


# 4, 2, 1 and 0.5, 2, 2 images a second; turn by turn 8, 1, 0.5 times as many.
MEDIANS = (2.0, 2.0, 1.0)


@pytest.mark.slow
def test_a_burst_and_a_step_take_turns(monkeypatch):
    assert rate_of_turns(tf.distribute.get_strategy(), monkeypatch) == MEDIANS


@pytest.mark.slow
def test_they_take_turns_on_two_replicas(two_replicas, monkeypatch):
    assert rate_of_turns(two_replicas, monkeypatch) == MEDIANS


def test_a_burst_is_every_batch_anew_and_a_step_moves_the_weights(tmp_path):
    """Neither is kept from the turn before: that would be timing nothing."""
    configuration.parse([], SMALL)
    from tf_advseg.data.records import record_set as record_sets
    reader = VocSizedReader(3)
    records = record_sets.RecordSet(record_sets.write_records(
        reader, reader.splits(), tmp_path / 'records', progress=False))
    read = []
    records._read, original = (lambda place: read.append(int(place)) or original(place),
                               records._read)
    deliver, take = input_benchmark._turns(records, 'flip', (33, 33), tf.distribute.get_strategy(),
                                           'deeplab_mobilenet_v2', 2, 4)
    del read[:]
    deliver()
    assert len(read) == 8 and set(read) == {0, 1, 2}
    deliver()
    assert len(read) == 16
    first, second = take(), take()
    assert first['loss/ce'] != second['loss/ce']
