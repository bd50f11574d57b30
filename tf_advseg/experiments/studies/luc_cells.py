"""The cells of Luc et al.'s supplement, Table 2, as gin files: generated from one table.

    python -m tf_advseg.experiments.studies.luc_cells

writes gin/papers/luc/voc_dilated8_*.gin; a test holds the committed files to what it would write.
"""
import dataclasses

from tf_advseg.core import configuration
from tf_advseg.core import files

BASE = 'papers/luc/voc_dilated8.gin'
ENCODINGS = ('basic', 'product', 'scaling')  # 'Simple' in the table's head, Basic in the text
# Architecture → for each encoding mIOU, mBF, sigma, slr, alr, lambda, as printed.
TABLE = {
    'large_fov': ((72.02, 47.19, 21.67, 1e-4, 0.5, 1.0), (72.04, 47.70, 22.42, 1e-6, 0.1, 1.0),
                  (71.99, 47.85, 22.25, 1e-5, 0.1, 1.0)),
    'small_fov': ((71.95, 47.58, 22.20, 1e-5, 0.2, 1.0), (71.87, 46.42, 21.88, 1e-4, 0.1, 0.1),
                  (71.89, 47.14, 21.80, 1e-4, 0.5, 1.0)),
    'large_fov_light': ((71.95, 46.97, 21.96, 1e-4, 0.5, 0.1),
                        (71.97, 47.73, 22.32, 1e-6, 0.1, 1.0),
                        (72.01, 47.43, 22.17, 1e-4, 0.1, 0.1)),
    'small_fov_light': ((71.88, 47.22, 21.99, 1e-5, 0.1, 1.0),
                        (71.91, 47.38, 22.39, 1e-5, 0.2, 1.0),
                        (71.96, 46.89, 21.71, 1e-4, 0.5, 1.0))}
BASELINE = (71.79, 47.36, 22.21, 1e-6)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
      discriminator, encoding: names, as `build_fov_discriminator` and `label_maps` know them; None,
        None is the baseline.
      miou, bf, sigma: percent, the paper's numbers.
      slr, alr: learning rates of segmentor and discriminator.
      weight: lambda.
    """
    discriminator: object
    encoding: object
    miou: float
    bf: float
    sigma: float
    slr: float
    alr: float = 0.0
    weight: float = 0.0

    @property
    def name(self):
        """The file's, below gin/."""
        end = f'{self.discriminator}_{self.encoding}' if self.discriminator else 'baseline'
        return f'papers/luc/voc_dilated8_{end}.gin'

    @property
    def settings(self):
        """((gin name, value as gin text), ...): what makes the cell."""
        start = ('segmentor_optimizer.learning_rate', f'{self.slr:g}')
        if not self.discriminator:
            return start, ('adversarial_stage.only_control', 'True')
        return (start, ('build_fov_discriminator.name', repr(self.discriminator)),
                ('label_maps.kind', repr(self.encoding)),
                ('discriminator_optimizer.learning_rate', f'{self.alr:g}'),
                ('luc.adversarial_weight', f'{self.weight:g}'))

    def text(self):
        """What stands in the file."""
        what = (f'{self.discriminator} on the encoding {self.encoding}' if self.discriminator else
                'the baseline, cross-entropy alone')
        lines = [f'# Luc et al. on PASCAL VOC 2012, Dilated-8: {what}.', '#', '# Command:',
                 f'#   python tools/train.py --gin_file=gin/{self.name} \\',
                 '#       --data_dir=VOC_RECORDS --checkpoint=DILATED8_ON_VOC --seed=0',
                 '# Paper: Table 2 of the supplement, '
                 + ('a cell' if self.discriminator else 'the first row')
                 + f': mIOU {self.miou:.2f}, mBF {self.bf:.2f}, sigma {self.sigma:.2f}',
                 '# (the paper\'s numbers, on val; mBF on val_sbd).',
                 f'# Differs from the paper: see gin/{BASE}; how mBF is measured, too.',
                 '# Written by tf_advseg/experiments/studies/luc_cells.py: change it there.', '',
                 f"include '{BASE}'", '']
        lines += [f'{name} = {value}' for name, value in self.settings]
        return '\n'.join(lines) + '\n'


def cells():
    """[Cell]: the baseline and the twelve."""
    found = [Cell(None, None, *BASELINE)]
    for discriminator, values in TABLE.items():
        found += [Cell(discriminator, encoding, *row) for encoding, row in zip(ENCODINGS, values)]
    return found


def write():
    """Writes every cell's file; returns their names."""
    for cell in cells():
        with files.atomic_file(configuration.gin_root() / cell.name, 'w') as file:
            file.write(cell.text())
    return [cell.name for cell in cells()]


if __name__ == '__main__':
    print('\n'.join(f'written: gin/{name}' for name in write()))
