"""The comparison with a graph that TensorFlow runs: it agrees when it should, and only then."""
import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab
from tf_advseg.models.zoo import frozen_graph, parity


def builder(official_files, values):
    """Function (output_stride, crop_size) -> the network with these values."""
    def build(output_stride, crop_size):
        crop = {} if crop_size is None else {'crop_size': crop_size}
        model = official_files.mobilenet(output_stride=output_stride, atrous_rates=(
            4 * 16 // output_stride,), **crop)
        return official_files.fill(model, values)
    return build


@pytest.fixture(scope='module')
def graph(official_files, tmp_path_factory):
    """(values, path) of a frozen graph at output stride 8."""
    make = lambda: official_files.mobilenet(output_stride=8, atrous_rates=(8,))  # noqa: E731
    values = official_files.values(make())
    values['logits/semantic/weights'] *= np.float32(4)  # spread, as trained logits are
    path = tmp_path_factory.mktemp('graph') / 'frozen_inference_graph.pb'
    path.write_bytes(official_files.frozen(make, values).SerializeToString())
    return values, path


def test_the_same_weights_agree_at_the_graph_s_own_stride(official_files, graph):
    values, path = graph
    result = parity.compare(path, builder(official_files, values))
    assert result.good and result.kind == 'frozen graph'
    assert (result.output_stride, result.size) == (8, (65, 65))
    assert result.max_delta < 1e-4 * result.max_logit and result.clear_agreement > 0.999
    assert 0 < result.clear_share <= 1
    assert 'stride 8, 65x65' in result.text() and '\n' not in result.text()


def test_a_slip_in_one_layer_shows(official_files, graph):
    values, path = graph
    name = 'MobilenetV2/expanded_conv_10/project/BatchNorm/moving_mean'
    slipped = {**values, name: values[name] + np.float32(1)}
    result = parity.compare(path, builder(official_files, slipped))
    assert not result.good and result.max_delta > 0.01 * result.max_logit


def test_a_picture_is_brought_to_the_graph_s_size(official_files, graph):
    values, path = graph
    picture = parity.synthetic_picture(40, 100)
    assert parity.compare(path, builder(official_files, values), picture).size == (65, 65)
    fitted = parity._fitted(picture, (65, 65))
    assert fitted.shape == (65, 65, 3) and (fitted[30:] == 127).all()


def test_graphs_that_cannot_be_compared_are_one_line(official_files, graph, tmp_path):
    values, path = graph
    definition = frozen_graph.load(path)
    for node in definition.node:
        node.name = node.name.replace('SemanticPredictions', 'other')
    (tmp_path / 'g.pb').write_bytes(definition.SerializeToString())
    with pytest.raises(UserError, match='no node SemanticPredictions'):
        parity.compare(tmp_path / 'g.pb', builder(official_files, values))

    def wrong_rates(output_stride, crop_size):
        return official_files.mobilenet(output_stride=output_stride, atrous_rates=(3,))

    with pytest.raises(UserError, match='at no output stride'):
        parity.compare(path, wrong_rates)


@pytest.mark.parametrize('name, depth, stride, kind', [
    ('deeplabv3.tflite', 0.5, 8, 'TFLite model'),
    ('deeplabv3_mnv2_dm05_pascal_quant.tflite', 0.5, 16, 'quantised TFLite model')])
def test_real_tflite_files_agree(shared, name, depth, stride, kind):
    from tf_advseg.models import zoo
    path = shared / 'zoo' / name
    if not path.is_file():
        pytest.skip(f'the zoo files are not here: {path}')

    def build(output_stride, crop_size):
        model = deeplab.deeplab_mobilenet_v2(21, output_stride, depth, crop_size=crop_size)
        zoo.read(path, model)
        return model

    from PIL import Image
    picture = np.asarray(Image.open(shared / 'zoo' / 'images' / 'bird_513.png').convert('RGB'))
    result = parity.compare(path, build, picture)
    assert result.good and result.kind == kind and result.output_stride == stride
    assert (result.max_delta is None) == kind.startswith('quantised')


def test_the_synthetic_picture_is_one_and_has_many_colours():
    picture = parity.synthetic_picture(65, 97)
    assert picture.shape == (65, 97, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, parity.synthetic_picture(65, 97))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
