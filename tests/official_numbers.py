"""The reference numbers of the official DeepLab code, and our networks to hold against them.

They lie in ../shared/reference; a selection of them is committed in tests/fixtures/reference, so
that parity is proved where the rest is absent (tests/fixtures/select_reference.py made it).
"""
import json
import pathlib
import types

import numpy as np
import pytest

from tf_advseg.models import deeplab, layers

FIXTURES = pathlib.Path(__file__).parent / 'fixtures' / 'reference'


class OfficialNumbers:
    """Reads the reference; skips the test that asks for what is not there.

    Attributes:
      rule: the module param_rule: values of variables, images and labels from names.
    """

    def __init__(self, shared):
        self._folders = [shared / 'reference'] if shared else []
        self._folders.append(FIXTURES)
        # Not imported: that would leave a __pycache__ among the reference's files.
        path = self.path('param_rule.py')
        self.rule = types.ModuleType('param_rule')
        exec(compile(path.read_text(encoding='utf-8'), str(path), 'exec'), self.rule.__dict__)

    def path(self, name):
        """Path of a file of the reference."""
        for folder in self._folders:
            if (folder / name).is_file():
                return folder / name
        pytest.skip(f'{name} is not among the committed reference numbers, and ../shared/reference '
                    'is not here (set TF_ADVSEG_SHARED)')

    def arrays(self, name):
        """dict of the arrays of '<name>.npz'."""
        with np.load(self.path(f'{name}.npz')) as file:
            return dict(file)

    def configuration(self, name):
        """What variables__<name>.json says: options, counts, rule_sha256, and the whole list."""
        for folder in self._folders:
            if (folder / f'variables__{name}.json').is_file():
                return json.loads((folder / f'variables__{name}.json').read_text())
        return json.loads((FIXTURES / 'configurations.json').read_text())[name]

    def network(self, configuration, crop_size, **changes):
        """The network of a configuration with the rule's values."""
        options = self.configuration(configuration)['options']
        flags = options['flags']
        arguments = dict(
            output_stride=options['os'], atrous_rates=tuple(options['rates'] or ()),
            decoder='decoder_output_stride' in flags, crop_size=crop_size,
            image_pooling=flags.get('add_image_level_feature', True))
        variant = flags['model_variant']
        if variant == 'mobilenet_v2':
            builder = deeplab.deeplab_mobilenet_v2
            arguments['depth_multiplier'] = flags.get('depth_multiplier', 1.0)
        else:
            builder = (deeplab.deeplab_xception if variant.startswith('xception')
                       else deeplab.deeplab_resnet)
            arguments.update(variant=variant, multi_grid=tuple(flags.get('multi_grid', (1, 1, 1))))
        model = builder(options['classes'], **{**arguments, **changes})
        for name, variable in layers.official_variables(model).items():
            variable.assign(self.rule.param_value(name, variable.shape))
        return model

    def case(self, name, **changes):
        """(network, image uint8 [H,W,3], expected arrays) of '<configuration>__HxW[__nocrop]'."""
        configuration, size, *rest = name.split('__')
        height, width = map(int, size.split('x'))
        expected = self.arrays(name)
        crop_size = None if rest else (height, width)
        return (self.network(configuration, crop_size, **changes),
                self.rule.image(height, width), expected)
