"""A folder of images examined, what was found in it, and how a file in it is replaced."""
from PIL import Image

from tf_advseg.data.doctor import examination

CLASSES = {'num_classes': 4}


def examined(folder, options=None, name='folder'):
    return examination.examine_source(name, folder, CLASSES if options is None else options,
                                      show=False)


def kinds(diagnosis, severity=None):
    """{kind: number of findings}"""
    return {kind: len(found) for (worst, kind), found in diagnosis.groups().items()
            if severity in (None, worst)}


def messages(diagnosis, kind):
    return [finding.message for finding in diagnosis.findings if finding.kind == kind]


def save(folder, name, image=None, label=None):
    if image is not None:
        Image.fromarray(image).save(folder / 'images' / f'{name}.png')
    if label is not None:
        Image.fromarray(label).save(folder / 'labels' / f'{name}.png')
