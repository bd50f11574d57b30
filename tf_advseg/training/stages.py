"""Stages of a run: each has its folder, its done-marker and a hash of what it depends on."""
import hashlib
import json

from tf_advseg.core import errors
from tf_advseg.core import files

DONE = 'done.json'


def settings_hash(settings):
    """Hash of a JSON-able description of everything that a stage's result depends on."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_stage(stages_folder, name, settings, work, chief=True):
    """Runs a stage unless it is done, and returns its result.

    Args:
      stages_folder: the run's stages/ folder.
      name: the stage's name, a folder below it.
      settings: JSON-able; what the result depends on.
      work: function(folder) -> JSON-able result. It resumes by itself from what it finds there.
      chief: whether this process writes the done-marker.

    Returns:
      What `work` returned, now or earlier.

    Raises:
      UserError: the stage was done with other settings; its marker is damaged.
    """
    folder = stages_folder / name
    marker = folder / DONE
    identity = settings_hash(settings)
    if marker.exists():
        done = files.read_json(marker)
        with files.as_written(marker):
            same, result = done['settings_hash'] == identity, done['result']
            changed = [] if same else _changed(done['settings'], settings)
            if done.get('result_hash', settings_hash(result)) != settings_hash(result):
                raise ValueError('its result is not the one that was written')
        if not same:
            raise errors.UserError(f'{folder}: was done with other settings '
                                   f'({", ".join(changed)}); use another --workdir')
        return result
    with files.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    result = work(folder)
    if chief:
        write_done(marker, settings, result)
    return result


def write_done(marker, settings, result):
    """Writes a done-marker, with hashes of what it says: everything after a stage reads its result.

    Args:
      marker: <stage's folder>/DONE.
      settings, result: see `run_stage`.
    """
    files.write_json(marker, {
        'settings_hash': settings_hash(settings),
        'settings': json.loads(json.dumps(settings, default=str)),
        'result_hash': settings_hash(json.loads(files.to_json(result))), 'result': result})


def _changed(was, now):
    """Names of settings whose value differs, or that only one of two stages has."""
    def of(settings, key):
        return json.dumps(settings[key], default=str) if key in settings else None
    names = []
    for key in dict.fromkeys([*now, *was]):
        if of(was, key) == of(now, key):
            continue
        inner = was.get(key), now.get(key)
        names += ([f'{key}.{name}' for name in _changed(*inner)]
                  if all(isinstance(part, dict) for part in inner) else [key])
    return names
