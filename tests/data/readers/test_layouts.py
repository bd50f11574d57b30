"""Published data sets known by their folders, at any depth an archive may have them."""
import pytest

from data_layouts import write_folder
from official_layouts_ade_cmp_segtrack import write_ade20k, write_cmp, write_segtrack
from official_layouts_voc_cityscapes import write_cityscapes, write_voc
from tf_advseg.data.readers import READERS, base, layouts

WRITERS = {'ade20k': write_ade20k, 'cityscapes': write_cityscapes, 'cmp_facades': write_cmp,
           'pascal_voc_2012': write_voc, 'segtrack_v2': write_segtrack}


@pytest.mark.parametrize('name', WRITERS)
def test_every_published_layout_is_known_also_from_above(tmp_path, name):
    folder = WRITERS[name](tmp_path / 'above' / 'data')
    assert layouts.guess(folder) == layouts.guess(tmp_path) == name


def test_stanford_background_is_known(mini_stanford):
    assert layouts.guess(mini_stanford) == 'stanford_background'
    assert set(layouts._SIGNS) == {*WRITERS, 'stanford_background'} == set(READERS) - {
        'folder', 'pictures', 'shapes'}


def test_anybody_s_folder_is_none_of_them(tmp_path):
    assert layouts.guess(write_folder(tmp_path / 'own', ['train/a', 'val/b'])) is None
    assert layouts.guess(tmp_path / 'nowhere') is None


def test_a_ring_of_links_beside_the_data_is_no_folder(tmp_path):
    write_segtrack(tmp_path / 'above' / 'data')
    for folder in (tmp_path, tmp_path / 'above'):
        (folder / 'ring').symlink_to('ring')
    assert layouts.guess(tmp_path) == 'segtrack_v2'
    assert base.find_root(tmp_path, ('JPEGImages', 'GroundTruth'), 'it').is_dir()
