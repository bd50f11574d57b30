"""The forms of a network side by side."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import runtime_benchmark
from tf_advseg.models.zoo import onnx_export
from tf_advseg.reporting import tables


def test_every_form_is_timed_and_agrees(monkeypatch):
    def missing():
        raise UserError('ONNX needs packages')
    monkeypatch.setattr(onnx_export, 'require', missing)
    from tf_advseg.core import configuration
    configuration.parse([], ['deeplab_mobilenet_v2.depth_multiplier=0.25'])
    try:
        found = runtime_benchmark.measure(size=(65, 65), repeats=2)
    finally:
        configuration.parse([], [])
    timings, left_out = found.timings, found.left_out
    assert timings[0].name == runtime_benchmark.PLAIN and timings[0].ratio == 1.0
    assert left_out == {'ONNX Runtime': 'ONNX needs packages'}
    for timing in timings:
        assert timing.seconds > 0 and timing.ratio > 0
        if runtime_benchmark.INT8 not in timing.name:
            assert timing.agreement > 0.9999
            assert timing.worst == timing.agreement  # of one image
    text = tables.to_text(runtime_benchmark.table(found))
    assert 'left out: ONNX needs packages' in text
    assert len(text.splitlines()) == 3 + len(timings) + 1


def test_no_such_network():
    with pytest.raises(UserError, match='deeplab_xception'):
        runtime_benchmark.measure('deeplab_xcept')
