"""The catalogue: what is published is there, and what can be built resolves."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data import official_specs
from tf_advseg.models import layers
from tf_advseg.models.zoo import catalogue
from tf_advseg.run import networks

BUILT = [name for name, entry in catalogue.ENTRIES.items() if entry.network]
# Single-scale results at output stride 16 and multi-scale ones at 8, as published.
TARGETS = {'xception65_coco_voc_trainaug': (82.20, 83.58),
           'mobilenetv2_coco_voc_trainaug': (75.32, 77.33),
           'xception65_cityscapes_trainfine': (78.79, 80.42),
           'mobilenetv2_coco_cityscapes_trainfine': (70.71, 73.57)}


def test_published_scores_are_those_of_the_page():
    for name, (single, several) in TARGETS.items():
        scores = {(s.output_stride, s.flip): s.miou for s in catalogue.ENTRIES[name].scores}
        assert scores == {(16, False): single, (8, True): several}


def test_addresses_are_published_archives_and_each_its_own():
    addresses = [entry.address for entry in catalogue.ENTRIES.values()]
    assert len(set(addresses)) == len(addresses) == len(catalogue.ENTRIES)
    for address in addresses:
        assert address.startswith(('http://download.tensorflow.org/models/',
                                   'https://storage.googleapis.com/mobilenet_v2/'))
        assert address.endswith(('.tar.gz', '.tgz'))


def test_classes_are_those_of_the_data_sets():
    for entry in catalogue.ENTRIES.values():
        if entry.dataset is not None:
            assert official_specs.SPECS[entry.dataset].num_classes == entry.num_classes


@pytest.mark.parametrize('name', BUILT)
def test_every_description_is_of_a_builder_s_arguments(name):
    entry = catalogue.entry(name)
    arguments = entry.arguments(num_classes=entry.num_classes or 4)
    description = networks.describe(entry.network, **arguments)
    default = networks.describe(entry.network, num_classes=4)
    assert set(description['arguments']) == set(default['arguments'])
    doubled = entry.arguments(entry.num_classes or 4, output_stride=8)
    assert doubled['atrous_rates'] == tuple(2 * rate for rate in arguments['atrous_rates'])
    if entry.atrous_rates:
        assert doubled['atrous_rates'] == (12, 24, 36)


@pytest.mark.parametrize('name, configuration', [
    ('mobilenetv2_coco_cityscapes_trainfine', 'mnv2_cityscapes_os16'),
    ('xception65_coco_voc_trainaug', 'xception65_pascal_os16')])
def test_the_network_has_exactly_the_published_variables(official, name, configuration):
    entry = catalogue.entry(name)
    model = networks.build(networks.describe(entry.network, **entry.arguments()))
    listed = official.configuration(configuration)
    ours = layers.official_variables(model)
    assert sum(v.shape.num_elements() for v in ours.values()) == listed['num_params']
    assert len(ours) == listed['num_variables']


def test_rates_belong_to_a_stride():
    assert catalogue.rates_at((6, 12, 18), 16, 8) == (12, 24, 36)
    assert catalogue.rates_at((12, 24, 36), 8, 32) == (3, 6, 9)
    assert catalogue.rates_at((3, 1), 16, 32) == (2, 1)  # never 0
    for stride in (0, 7, None, 64):
        with pytest.raises(UserError, match='expected one of 8, 16, 32'):
            catalogue.rates_at((6,), 16, stride)
    with pytest.raises(UserError, match='output_stride is 0'):
        catalogue.entry('mobilenetv2_coco_voc_trainaug').arguments(21, 0)


def test_scores_that_cannot_be_had_here_say_why():
    for name, entry in catalogue.ENTRIES.items():
        if entry.dataset == 'ade20k_151':
            assert 'out of reach' in entry.note and 'evaluate' in entry.note, name


def test_what_is_not_built_says_so_and_typos_get_the_nearest():
    for name, entry in catalogue.ENTRIES.items():
        if name not in BUILT:
            with pytest.raises(UserError, match=f'{name}: not built here: .* has no '):
                entry.arguments()
    with pytest.raises(UserError, match='Did you mean "xception65_ade20k_train"'):
        catalogue.entry('xception65_ade20k_trian')
    with pytest.raises(UserError, match='backbone only; .*--num_classes'):
        catalogue.entry('xception_65_imagenet').arguments()


def test_the_listing_names_every_entry_with_its_address():
    text = catalogue.listing()
    for name, entry in catalogue.ENTRIES.items():
        assert f'{name}  [' in text and entry.address in text
    assert text.count('NOT BUILT') == len(catalogue.ENTRIES) - len(BUILT) == 6
    assert max(map(len, text.splitlines())) < 160
