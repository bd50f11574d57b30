"""The class maps of a run's cycles: kept, read, drawn."""
import numpy as np

from tf_advseg.lookahead import cycle_masks


def test_what_was_kept_is_read_in_the_order_of_the_cycles(tmp_path):
    masks = [np.full((3, 4), number, np.uint8) for number in range(6)]
    cycle_masks.keep(tmp_path, 0, {'g0': masks[:1], 'e0': masks[1:2]})
    cycle_masks.keep(tmp_path, 1, {'e1': masks[2:3], 'g1': [masks[3][:2]]})
    cycle_masks.keep(tmp_path, 1, {'e1': masks[4:5], 'g1': [masks[3][:2]]})  # done again
    found = cycle_masks.read(tmp_path)
    assert list(found) == ['g0', 'e0', 'e1', 'g1']
    assert found['e1'][0][0, 0] == 4 and found['g1'][0].shape == (2, 4)


def test_nothing_kept_is_nothing(tmp_path):
    assert cycle_masks.read(tmp_path) == {} and cycle_masks.panel(None, tmp_path) is None


def test_of_many_cycles_few_are_kept_the_first_and_the_last_among_them(tmp_path):
    mask = np.zeros((2, 2), np.uint8)
    for cycle in range(200):
        first = {} if cycle else {'g0': [mask]}
        cycle_masks.keep(tmp_path, cycle, {**first, f'e{cycle}': [mask]})
    found = list(cycle_masks.read(tmp_path))
    assert found[:2] == ['g0', 'e0'] and found[-1] == 'e199'
    assert cycle_masks.MOST_COLUMNS < len(found) <= 66
