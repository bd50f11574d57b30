"""Folders that hold the GAN of Zhu et al.'s phase 1 with all it takes to use it in phase 2.

    checkpoints/gan/{gan.json, weights/}
"""
import pathlib
import shutil
import tempfile

import gin

from tf_advseg.adversaries import reconstruction_networks
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.methods.zhu import zhu
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.training import checkpoints

FOLDER = 'gan'  # below a run's checkpoints/
DESCRIPTION = 'gan.json'
WEIGHTS = 'weights'
FORMAT = 'tf_advseg redrawing GAN'
# Names that earlier versions wrote: of values, and of an argument of the generator.
_VALUES = {'picture': 'image', 'mask_and_picture': 'mask_and_image'}
OLD_ARGUMENT, ARGUMENT = 'sees_picture', 'sees_image'
_PARTS = ('settings', 'generator', 'discriminator', 'class_names', 'dataset', 'train', 'steps')


def describe(reconstruction, data, steps):
    """What `save` writes down of a GAN: JSON-able.

    Args:
      reconstruction: methods.zhu.zhu.Reconstruction.
      data: run.dataset.ExperimentData that it was trained on.
      steps: of its generator.
    """
    return {'settings': reconstruction.settings.identity,
            'generator': reconstruction.generator.arguments,
            'discriminator': reconstruction.discriminator.arguments,
            'class_names': list(data.spec.class_names), 'dataset': data.spec.name,
            'train': list(data.train), 'steps': int(steps), 'digest': reconstruction.digest()}


def save(folder, reconstruction, description, chief=True):
    """Writes a GAN; the folder is whole or not there, and replaced if it is there.

    Args:
      folder: where to; its parent exists.
      reconstruction: methods.zhu.zhu.Reconstruction.
      description: from `describe`.
      chief: see `checkpoints.write_state`.

    Raises:
      UserError: the disk is full or not writable.
    """
    folder, both = pathlib.Path(folder), _networks(reconstruction)
    if not chief:
        with tempfile.TemporaryDirectory() as scratch:
            checkpoints.write_state(pathlib.Path(scratch) / WEIGHTS, chief, **both)
        return
    with files.disk_errors(folder):
        if folder.exists():
            shutil.rmtree(folder)
    with files.atomic_folder(folder) as temporary:
        checkpoints.write_state(temporary / WEIGHTS, **both)
        files.write_json(temporary / DESCRIPTION, {'format': FORMAT, 'version': 1, **description})


def load(folder, settings):
    """Builds a GAN from its folder and restores its weights.

    Args:
      folder: as `save` wrote it.
      settings: zhu_settings.GanSettings of the run that is to use it.

    Returns:
      methods.zhu.zhu.Reconstruction; its settings are those that it was trained with.

    Raises:
      UserError: nothing there, damaged, or trained with other settings.
    """
    folder = pathlib.Path(folder)
    description = read(folder)
    try:
        generator = reconstruction_networks.build_reconstruction_generator(
            **description['generator'])
        discriminator = reconstruction_networks.build_patch_discriminator(
            **description['discriminator'])
    except (errors.UserError, TypeError, AttributeError) as error:
        raise errors.UserError(f'{folder / DESCRIPTION}: damaged ({error})') from error
    _require_alike(folder, description, settings)
    known = {name: description['settings'].get(name, value)
             for name, value in settings.identity.items()}
    reconstruction = zhu.Reconstruction(generator, discriminator, zhu_settings.GanSettings(**known),
                                        description.get('digest'))
    checkpoints.read_state(folder / WEIGHTS, **_networks(reconstruction))
    return reconstruction


def _require_alike(folder, description, settings):
    """UserError where what this run says of the GAN is not how it was trained.

    Of what phase 2 needs, all; of the rest what gin binds: a setting that is only a default here
    claims nothing.
    """
    said = {'zhu_gan': {**gin.get_bindings('zhu_gan'), **settings.of_use},
            'build_reconstruction_generator': gin.get_bindings(
                reconstruction_networks.build_reconstruction_generator),
            'build_patch_discriminator': gin.get_bindings(
                reconstruction_networks.build_patch_discriminator)}
    known = {'zhu_gan': description['settings'],
             'build_reconstruction_generator': description['generator'],
             'build_patch_discriminator': description['discriminator']}
    for builder, bindings in said.items():
        for name, value in bindings.items():
            theirs = known[builder].get(name, value)
            if name in settings.of_use:
                theirs = known[builder].get(name)
            if value is None or _plain(theirs) == _plain(value):
                continue
            raise errors.UserError(
                f'{folder}: this GAN was trained with {builder}.{name} = {theirs!r}, and here it '
                f'is {value!r}; set it alike, or give another reconstruction_stage.source')


def _plain(value):
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def require_fitting(folder, data):
    """UserError where a GAN is of other classes, or has seen labels that this run withholds.

    Args:
      folder: as `save` wrote it.
      data: run.dataset.ExperimentData of the run that is to use it.
    """
    description = read(folder)
    theirs, own = description['class_names'], list(data.spec.class_names)
    if theirs != own:
        raise errors.UserError(
            f'{folder}: this GAN reconstructs {len(theirs)} classes of {description["dataset"]}, '
            f'and {data.spec.name} has {len(own)} (others, or in another order); give the phase 1 '
            'of a run on this data set as reconstruction_stage.source')
    # By whatever name: a folder that was renamed is the same data set.
    withheld = set(data.records.ids) - set(data.train)
    seen = withheld.intersection(description['train'])
    if seen:
        raise errors.UserError(
            f'{folder}: labels would leak: this GAN was trained on '
            + (f'{len(seen)} images that are' if len(seen) > 1 else '1 image that is')
            + f' hold-out, test or unlabelled here ("{min(seen)}"); give a phase 1 of the same '
            'split')


def find(path, form=zhu_settings.GAN):
    """The GAN that a user means by a path.

    Args:
      path: its folder, or a run directory; '{form}' in it stands for `form`.
      form: zhu_gan.form.

    Returns:
      Path.

    Raises:
      UserError: there is no such path, or it holds none.
    """
    name = str(path).replace('{form}', form)
    given = pathlib.Path(name).expanduser()
    with files.disk_errors(given):
        if not given.exists():
            raise errors.UserError(
                f'reconstruction_stage.source = {name!r}: no such folder; give the directory of a '
                'run whose phase 1 is done, or leave it out to train one here')
        for folder in (given, given / 'checkpoints' / FOLDER):
            if (folder / DESCRIPTION).is_file():
                return folder
    raise errors.UserError(
        f'reconstruction_stage.source = {name!r}: holds no GAN '
        f'(checkpoints/{FOLDER}/{DESCRIPTION}); its phase 1 is not done, or it is no run of Zhu et '
        'al.\'s method; give one whose phase 1 is done')


def read(folder):
    """The description in a GAN's folder.

    Raises:
      UserError: damaged.
    """
    path = pathlib.Path(folder) / DESCRIPTION
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise errors.UserError(f'{path}: not a description that this package wrote (its "format" '
                               f'is not "{FORMAT}"); copy the whole folder anew')
    missing = [name for name in _PARTS if name not in content]
    if missing:
        raise errors.UserError(f'{path}: a part is missing ("{missing[0]}"); copy the whole folder '
                               'anew')
    wrong = [name for name in ('settings', 'generator', 'discriminator')
             if not isinstance(content[name], dict)]
    if wrong:
        raise errors.UserError(f'{path}: "{wrong[0]}" is no group of settings; copy the whole '
                               'folder anew')
    settings, generator = content['settings'], content['generator']
    if OLD_ARGUMENT in generator:
        generator[ARGUMENT] = generator.pop(OLD_ARGUMENT)
    content['settings'] = {name: _VALUES.get(value, value) if isinstance(value, str) else value
                           for name, value in settings.items()}
    return content


def _networks(reconstruction):
    """What is written of a GAN, by name."""
    return {'generator': reconstruction.generator, 'discriminator': reconstruction.discriminator}
