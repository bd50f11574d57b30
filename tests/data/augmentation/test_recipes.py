"""Recipes: image and label move together, sizes and grids are the papers' codes', names."""
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_layouts import write_folder
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.augmentation.official_preprocessing import CENTRES, RandomScale, SizeRange
from tf_advseg.data.readers import make_reader
from tf_advseg.data.records.record_set import RecordSet, write_records

IDS = [f'p{i}' for i in range(9)]
CROP = (33, 49)
COLOUR = (250.0, 1.0, 251.0)  # of padding: a place that no image has
MORE = {'range': recipes.Recipe(size_range=SizeRange(17, 41, 8)),
        'free': recipes.Recipe(random_scale=RandomScale(0.5, 2.0, 0.0)),
        'still': recipes.Recipe(flip=False)}


def recipe_of(name):
    return MORE.get(name) or recipes.make_recipe(name)


def a_map_of_places(height, width, across):
    """An image that says where each pixel is, (row, column, 0), and a label with one of them.

    Bilinear sampling of places gives places, so after any resize, crop and flip the image must
    say, to within half a pixel, what the nearest label says.
    """
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8)
    return image, (columns if across else rows).astype(np.uint8)


def moved(recipe, height, width, across, seed):
    """(image, label, where the image is) of `a_map_of_places` after a recipe; NumPy."""
    image, label = recipe.apply(*a_map_of_places(height, width, across), CROP,
                                tf.constant(seed, tf.int32), COLOUR)
    image, label = image.numpy(), label.numpy()
    assert image.shape == (*CROP, 3) and image.dtype == np.float32
    assert label.shape == CROP and label.dtype == np.uint8
    return image, label, ~(image == np.float32(COLOUR)).all(-1)


@pytest.mark.parametrize('name', [*recipes.RECIPES, *MORE])
@hypothesis.given(st.integers(12, 110), st.integers(12, 110), st.booleans(),
                  st.integers(0, 2 ** 31 - 1))
@hypothesis.settings(deadline=None, max_examples=25)
def test_image_and_label_move_together(name, height, width, across, seed):
    recipe = recipe_of(name)
    image, label, inside = moved(recipe, height, width, across, [seed, 5])
    # All of the image has a label, nothing else has one.
    np.testing.assert_array_equal(label != 255, inside)
    assert inside.any()
    error = np.abs(image[..., int(across)] - label)[inside]
    assert error.max() <= 0.5 + 1e-3
    # The image stands in the top left corner, but for the mirror.
    rows, columns = np.argwhere(inside).max(0) - np.argwhere(inside).min(0) + 1
    assert inside.sum() == rows * columns and inside[0].any()


@pytest.mark.parametrize('name', [*recipes.RECIPES, *MORE])
def test_an_example_depends_on_its_seed_alone(name):
    recipe = recipe_of(name)
    compiled = tf.function(lambda seed: recipe.apply(
        *a_map_of_places(60, 70, True), CROP, seed, COLOUR))
    places = set()
    for number in range(12):
        image, label, _ = moved(recipe, 60, 70, True, [number, 0])
        in_a_graph = compiled(tf.constant([number, 0]))
        np.testing.assert_array_equal(in_a_graph[0], image)
        np.testing.assert_array_equal(in_a_graph[1], label)
        places.add(image.tobytes())
    assert len(places) >= (2 if name == 'range' else 6)  # a range leaves the mirror alone


def test_one_draw_more_leaves_the_others_alone():
    """Without its flip, a recipe cuts the same place out of the same size."""
    flipped = 0
    for number in range(20):
        image, label, _ = moved(recipes.make_recipe('deeplab'), 60, 70, True, [number, 0])
        still = recipes.Recipe(flip=False, random_scale=RandomScale(0.5, 2.0, 0.25))
        other, other_label, _ = moved(still, 60, 70, True, [number, 0])
        flipped += not np.array_equal(image, other)
        if not np.array_equal(image, other):
            image, label = image[:, ::-1], label[:, ::-1]
        np.testing.assert_array_equal(image, other)
        np.testing.assert_array_equal(label, other_label)
    assert 4 <= flipped <= 16


def test_cutting_before_padding_is_padding_before_cutting():
    """The official order, step by step, against the recipe's."""
    from tf_advseg.data.augmentation import augment
    original = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    label = np.arange(2400).reshape(40, 60).astype(np.uint8)
    recipe = recipes.make_recipe('deeplab')
    for number in range(12):
        seed = tf.constant([number, 3])
        size = official_preprocessing.scaled_size(40, 60, recipe.random_scale.draw(seed))
        image, ids = official_preprocessing.resized(tf.constant(original), tf.constant(label), size)
        whole = tf.maximum(size, CROP)
        image, ids = augment.pad_to(image, ids, whole[0], whole[1], COLOUR)
        top, left = augment.random_crop_offsets(whole[0], whole[1], CROP, seed)
        image, ids = augment.random_flip(
            (augment.crop(image, top, left, CROP), augment.crop(ids, top, left, CROP)), seed)
        ours = recipe.apply(original, label, CROP, seed, COLOUR)
        np.testing.assert_array_equal(ours[0], image)
        np.testing.assert_array_equal(ours[1], ids)


def test_hungs_factors_are_those_its_code_draws():
    recipe = recipes.make_recipe('hung')
    expected = [0.5 + tenths / 10.0 for tenths in range(12)]  # randint(0, 11) includes 11
    np.testing.assert_allclose(recipe.random_scale.factors(), expected, rtol=1e-6)
    assert recipe.grid == CENTRES and recipe.flip
    size = official_preprocessing.scaled_size(375, 500, np.float32(0.7), CENTRES)
    assert size.numpy().tolist() == [262, 350]  # 262.5: to the nearest even one, as OpenCV


@pytest.mark.parametrize('size', [(26, 50), (13, 71), (40, 40), (9, 11)])
def test_the_grid_of_centres_is_opencvs(size):
    """By its definition: place (i + 1/2) * scale - 1/2, clamped at the border."""
    random = np.random.default_rng(1)
    original = random.integers(0, 256, (20, 30, 3), np.uint8)
    label = random.integers(0, 20, (20, 30)).astype(np.uint8)
    image, ids = official_preprocessing.resized(tf.constant(original), tf.constant(label), size,
                                                CENTRES)
    places = [np.clip((np.arange(n) + 0.5) * old / n - 0.5, 0, old - 1)
              for n, old in zip(size, label.shape)]
    low = [np.floor(p).astype(int) for p in places]
    high = [np.minimum(p + 1, old - 1) for p, old in zip(low, label.shape)]
    y, x = (p - f for p, f in zip(places, low))
    y, x = y[:, None, None], x[None, :, None]
    at = lambda rows, columns: original[np.ix_(rows, columns)].astype(float)
    expected = ((1 - y) * (1 - x) * at(low[0], low[1]) + (1 - y) * x * at(low[0], high[1])
                + y * (1 - x) * at(high[0], low[1]) + y * x * at(high[0], high[1]))
    np.testing.assert_allclose(image, expected, atol=1e-3)
    nearest = [np.floor((np.arange(n) + 0.5) * old / n).astype(int)
               for n, old in zip(size, label.shape)]
    np.testing.assert_array_equal(ids, label[np.ix_(*nearest)])


def test_enlarging_on_the_grid_of_centres_is_pillows():
    values = np.random.default_rng(2).uniform(0, 255, (20, 30)).astype(np.float32)
    ours = official_preprocessing.resized_map(tf.constant(values[..., None]), (50, 60), CENTRES)
    theirs = Image.fromarray(values).resize((60, 50), Image.BILINEAR)
    np.testing.assert_allclose(ours[..., 0], np.asarray(theirs), atol=2e-3)


def test_zhus_images_fill_the_crop_whatever_their_shape():
    recipe = recipes.make_recipe('zhu')
    assert not recipe.keeps_shape
    for height, width in ((12, 100), (100, 12), (33, 49), (40, 40)):
        image, label, inside = moved(recipe, height, width, False, [1, height])
        assert inside.all() and (label != 255).all()
        # 286/256 of 33 rows are 37: a crop goes from one of them to the 32nd after it.
        assert int(label.max()) - label.min() == pytest.approx(height * 32 / 37, abs=1.01)
    configuration.parse([], ['zhu_recipe.enlargement = 1.0', 'zhu_recipe.flip = False'])
    image, label, _ = moved(recipes.make_recipe('zhu'), 33, 49, False, [1, 1])
    np.testing.assert_array_equal(image, a_map_of_places(33, 49, False)[0])


def test_recipes_in_batches(tmp_path):
    reader = make_reader('folder', write_folder(tmp_path / 'own', IDS), num_classes=4)
    records = RecordSet(write_records(reader, {'train': IDS}, tmp_path / 'records',
                                      progress=False))

    def batches(name, first, count, **options):
        return list(pipeline.training_batches(
            records, IDS, 4, CROP, RandomStreams(0), first, count,
            recipe=recipes.make_recipe(name), **options).as_numpy_iterator())

    for name in ('hung', 'zhu', 'deeplab+photometric'):
        whole, later = batches(name, 0, 4), batches(name, 3, 1, num_parallel_calls=1)
        for key in whole[3]:
            np.testing.assert_array_equal(whole[3][key], later[0][key])
        inside = whole[0]['label'] != 255
        assert whole[0]['image'].shape == (4, *CROP, 3) and inside.mean() > 0.2
        if '+' not in name:  # the red channel of these images says the label
            off = np.abs(whole[0]['image'][..., 0] - 30.0 * whole[0]['label'])[inside]
            assert (off <= 60.0).mean() > 0.9 and (off <= 1.0).mean() > 0.4


def test_gin_says_what_a_recipe_is_made_of():
    configuration.parse([], ['hung_recipe.max_scale = 1.5', 'flip_recipe.flip = False',
                             'photometric.brightness = 0.5'])
    assert recipes.make_recipe('hung').random_scale == RandomScale(0.5, 1.5, 0.1)
    assert recipes.make_recipe('flip') == recipes.Recipe(flip=False)
    assert recipes.make_recipe('flip+photometric').photometric.brightness == 0.5
    assert recipes.make_recipe('deeplab').photometric is None


def test_settings_one_by_one_or_a_name():
    plain = ('stage_one', None, True, 1.0, 1.0, 0.25)
    assert recipes.of_settings(*plain) == recipes.Recipe() == recipes.make_recipe('flip')
    assert recipes.of_settings('stage_one', None, True, 0.5, 2.0, 0.25) == recipes.make_recipe(
        'deeplab')
    ranged = recipes.of_settings(*plain, size_range=(33, 49, 16))
    assert ranged.size_range == SizeRange(33, 49, 16)
    for wrong in ((0, 10), ('a', 9)):
        with pytest.raises(UserError, match=r'^stage_one.size_range = .*at least 1'):
            recipes.of_settings(*plain, size_range=wrong)
    for wrong in (-1.6, 0, '', (), 'ab', (1, 2, 3, 4), {33: 1}):
        with pytest.raises(UserError, match=r'^stage_one.size_range = .*: expected \(min_size, '):
            recipes.of_settings(*plain, size_range=wrong)
    assert recipes.of_settings('x', 'zhu', True, 1.0, 1.0, 0.25) == recipes.make_recipe('zhu')
    for change in ((False, 1.0, 1.0, 0.25), (True, 0.5, 1.0, 0.25), (True, 1.0, 1.0, 0.1)):
        with pytest.raises(UserError, match='both say what happens to images') as caught:
            recipes.of_settings('stage_one', 'hung', *change)
        assert '\n' not in str(caught.value)


def test_names_and_settings_that_are_none_are_refused():
    for name, text in (('hang', 'unknown augmentation "hang". Did you mean "hung"?'),
                       ('hung+photo', 'unknown option of an augmentation "photo"'),
                       (3, 'unknown augmentation "3"')):
        with pytest.raises(UserError) as caught:
            recipes.make_recipe(name)
        assert text in str(caught.value) and '\n' not in str(caught.value)
    for settings in ({'enlargement': 0.9}, {'enlargement': 'twice'}, {'grid': 'corner'},
                     {'enlargement': 1.1, 'size_range': SizeRange(9)}):
        with pytest.raises(UserError):
            recipes.Recipe(**settings)
    configuration.parse([], ['zhu_recipe.enlargement = 0.5'])
    with pytest.raises(UserError) as caught:
        recipes.make_recipe('zhu')
    assert '\n' not in str(caught.value)
