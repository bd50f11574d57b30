"""The rows of LoAd's Table 7 (hyperparameters, PASCAL VOC 2012 val) as gin files.

    python -m tf_advseg.experiments.studies.load_cells

writes gin/papers/load/voc_table7_*.gin; a test holds the committed files to what it would write,
and the table to the paper's text.
"""
import dataclasses
import pathlib

from tf_advseg.core import configuration
from tf_advseg.core import files

BASE = 'papers/load/voc_xception65.gin'
# beta_l and beta_u in percent, Gamma, B_max, mIoU on val; each "averaged over 3 experiments".
TABLE = ((5, 0.1, 50, 3, 82.88), (5, 0.1, 50, 4, 82.46), (5, 0.5, 50, 3, 82.42),
         (10, 0.1, 50, 3, 82.80), (20, 0.1, 50, 3, 82.43), (20, 0.1, 80, 3, 82.65))
BASELINE = 82.20


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of the table.

    Attributes:
      beta_l, beta_u: percent.
      patience: Gamma.
      capacity: B_max.
      miou: percent, the paper's number.
    """
    beta_l: float
    beta_u: float
    patience: int
    capacity: int
    miou: float

    @property
    def name(self):
        """The file's, below gin/."""
        upper = f'{self.beta_u:g}'.replace('.', '_')
        return (f'papers/load/voc_table7_l{self.beta_l:g}_u{upper}_g{self.patience}'
                f'_b{self.capacity}.gin')

    def text(self):
        """What stands in the file."""
        return '\n'.join([
            f'# LoAd on PASCAL VOC 2012: beta_l {self.beta_l:g} %, beta_u {self.beta_u:g} %, Gamma '
            f'{self.patience}, B_max {self.capacity}.', '#', '# Command:',
            f'#   python tools/train.py --gin_file=gin/{self.name} \\',
            '#       --data_dir=VOC2012 --checkpoint=deeplabv3_pascal_train_aug_2018_01_04.tar.gz '
            '--seed=0', '#   The paper\'s three repeats, with their mean:',
            f'#   python tools/sweep.py --gin_file=gin/{self.name} \\',
            '#       --data_dir=VOC2012 --checkpoint=deeplabv3_pascal_train_aug_2018_01_04.tar.gz '
            '\\', f'#       --seeds=0,1,2 --workdir=runs/{pathlib.Path(self.name).stem}',
            f'# Paper: Table 7, mIoU on val {BASELINE:.2f} -> {self.miou:.2f}, a mean of 3 (the '
            'paper\'s numbers).',
            f'# Differs from the paper: see gin/{BASE}. Never run.',
            '# Written by tf_advseg/experiments/studies/load_cells.py: change it there.', '',
            f"include '{BASE}'", '', f'controller.beta_l = {self.beta_l / 100:g}',
            f'controller.beta_u = {self.beta_u / 100:g}',
            f'controller.patience = {self.patience}', f'map_buffer.capacity = {self.capacity}'
        ]) + '\n'


def cells():
    """[Cell] in the table's order."""
    return [Cell(*row) for row in TABLE]


def main():
    """Writes the files."""
    for cell in cells():
        with files.atomic_file(configuration.gin_root() / cell.name) as file:
            file.write(cell.text().encode('utf-8'))


if __name__ == '__main__':
    main()
