"""Labels that do not fit their images, found by the edges of both."""
import numpy as np
import pytest
from examinations import examined, save


def scene(number):
    """An image and its label: a bright rectangle somewhere on noise."""
    random = np.random.default_rng(number)
    label = np.zeros([48, 64], np.uint8)
    top, left = random.integers(3, 20, 2)
    label[top:top + random.integers(12, 24), left:left + random.integers(10, 26)] = 1
    image = random.integers(60, 90, [48, 64, 3]).astype(np.uint8)
    image[label == 1] += 100
    return image, label


@pytest.fixture
def scenes(tmp_path):
    """Twenty-four of them, all in one folder."""
    folder = tmp_path / 'scenes'
    for kind in ('images', 'labels'):
        (folder / kind).mkdir(parents=True)
    for number in range(24):
        save(folder, f'p{number}', *scene(number))
    return folder


def labels_found(folder):
    return [f for f in examined(folder, {'num_classes': 2}).findings
            if f.kind in ('edges', 'edges_weak', 'edges_all', 'mirrored')]


def test_labels_that_fit_are_no_finding(scenes):
    assert not labels_found(scenes)


def test_a_label_that_is_not_its_image_s_is_found(scenes):
    wrong = np.zeros([48, 64], np.uint8)
    wrong[30:46, 44:62] = 1
    wrong[:20, :30] = scene(5)[1][-20:, -30:]
    save(scenes, 'p5', label=wrong)
    finding, = labels_found(scenes)
    assert finding.images == ('p5',)
    assert (finding.severity, finding.kind) in (('note', 'edges_weak'), ('warning', 'edges'))
    assert ("p5.png: the label's borders are not where the image's are; look at it"
            in finding.message)


def test_a_label_that_is_mirrored_is_said_to_be(scenes):
    image, label = np.full([48, 64, 3], 40, np.uint8), np.zeros([48, 64], np.uint8)
    label[5:40, 4:20] = 1
    image[label == 1] = 200
    save(scenes, 'p5', image, label[:, ::-1])
    finding, = labels_found(scenes)
    assert finding.images == ('p5',) and 'better mirrored left to right' in finding.message


@pytest.mark.parametrize('back, said', [
    (lambda label: label[:, ::-1], 'mirrored left to right'),
    (lambda label: label[::-1], 'upside down')])
def test_a_data_set_with_labels_the_wrong_way_round_is_one_finding(scenes, back, said):
    for number in range(1, 24):
        save(scenes, f'p{number}', label=back(scene(number)[1]))
    finding, = labels_found(scenes)
    assert (finding.severity, finding.kind, finding.images) == ('warning', 'mirrored', ())
    assert said in finding.message


def test_a_data_set_with_labels_of_other_images_is_one_finding(scenes):
    for number in range(24):
        save(scenes, f'p{number}', np.roll(scene(number)[0], (number % 7 + 8, 28), (0, 1)))
    finding, = labels_found(scenes)
    assert (finding.severity, finding.kind, finding.images) == ('warning', 'edges_all', ())
