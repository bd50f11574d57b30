"""The papers' own tables and figures: what makes each of them here, and the numbers printed."""
from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.experiments.studies.papers import durall_paper
from tf_advseg.experiments.studies.papers import el_gan_paper
from tf_advseg.experiments.studies.papers import hung_paper
from tf_advseg.experiments.studies.papers import load_paper
from tf_advseg.experiments.studies.papers import luc_paper
from tf_advseg.experiments.studies.papers import zhu_paper

PAPERS = {module.PAPER.name: module.PAPER for module in (
    load_paper, luc_paper, durall_paper, hung_paper, zhu_paper, el_gan_paper)}


def find_paper(name):
    """The `Paper` of a name.

    Raises:
      UserError: no such paper; names the nearest.
    """
    return PAPERS[require_one_of('--paper', name, PAPERS)]


def find(name, kind, number):
    """The `Entry` of a paper's table or figure.

    Args:
      name: of the paper.
      kind: 'table' or 'figure'.
      number: its number as text; 'S2' is of the supplement.

    Raises:
      UserError: no such paper, table or figure; says which there are.
    """
    entries = [entry for entry in find_paper(name).entries if entry.kind == kind]
    for entry in entries:
        if entry.number.lower() == str(number).lower():
            return entry
    there = ', '.join(entry.number for entry in entries) or 'none'
    raise UserError(f'--{kind}={number}: {name} has no such {kind}; it has {there}')
