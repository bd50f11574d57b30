"""Every network by its name: described, built, saved and loaded again, weights and all."""
import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data import spec as specs
from tf_advseg.run import networks

SMALL = {
    'deeplab_v2_resnet': {'variant': 'resnet_18', 'train_gamma_beta': False},
    'deeplab_residual': {'variant': 'resnet_18', 'output_stride': 8},
    'dilated8': {'fc_channels': 8, 'context': 'basic'},
    'farabet': {'hidden': 8, 'colour': 'yuv', 'input_stride': 2},
}
SPEC = specs.DatasetSpec('things', ('a', 'b', 'c'), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


@pytest.mark.parametrize('name', SMALL)
def test_a_saved_network_comes_back_the_same(name, tmp_path):
    description = networks.describe(name, num_classes=3, crop_size=(33, 41), seed=7, **SMALL[name])
    model = networks.build(description)
    assert (model.num_classes, model.crop_size) == (3, (33, 41))
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + 0.01 * random.uniform(size=variable.shape))
    networks.save(tmp_path / 'kept', model, description, SPEC)
    again, spec, _ = networks.load(tmp_path / 'kept')
    assert spec == SPEC and again.logits_stride == model.logits_stride
    image = random.uniform(0, 255, (1, 33, 41, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(image), model(image))


@pytest.mark.parametrize('name', ['deeplab_v2_resnet', 'dilated8', 'farabet'])
def test_another_number_of_classes_leaves_only_the_logits_new(name, tmp_path):
    description = networks.describe(name, num_classes=3, seed=7, **SMALL[name])
    model = networks.build(description)
    networks.save(tmp_path / 'kept', model, description, SPEC)
    other = networks.build(description, num_classes=5, seed=8)
    networks.load_weights(tmp_path / 'kept', other)
    for ours, theirs in zip(other.backbone.variables, model.backbone.variables):
        np.testing.assert_array_equal(ours, theirs)
    assert other(np.zeros((1, 17, 17, 3), np.float32)).shape[-1] == 5


def test_a_run_that_ended_after_phase_1_says_so(tmp_path):
    (tmp_path / 'checkpoints' / 'gan').mkdir(parents=True)
    with pytest.raises(UserError, match='ended after phase 1') as caught:
        networks.find(tmp_path)
    assert '\n' not in str(caught.value)
