"""Seeded campaigns over one program of disturbed_programs.py: kills, full disks."""
import contextlib
import random
import subprocess

import disturbed
import disturbed_programs

from tf_advseg.core import files

AT_ONCE = 4  # kills of one output before it may end
PAGE = 4096  # bytes: what a tmpfs gives out


def of_kills(name, folder, kills, seed):
    """Kills a program's starts at random writes until there are `kills`; every end is checked.

    An output that was killed up to `AT_ONCE` times is finished and must equal that of an
    undisturbed program; after each kill what is there is whole, or is not there.

    Args:
      name: of disturbed_programs.PROGRAMS.
      folder: a new folder for it.
      kills: how many.
      seed: of the writes at which it is killed.

    Returns:
      (kills, ends compared).
    """
    program, rng = disturbed_programs.PROGRAMS[name](), random.Random(f'{name} {seed}')
    scene, ends = disturbed.Scene(name, folder), 0
    try:
        writes = scene.finish()
        expected = program.end(scene.set_aside('whole'))
        assert expected
        while scene.kills < kills:
            points = []
            for _ in range(min(AT_ONCE, kills - scene.kills)):
                # About what is left to do: a kill that comes too late is none.
                points.append(rng.randint(1, max(writes - sum(points), writes // 4, 1)))
                code, _ = scene.start('kill', points[-1])
                if code == 0:  # less was left to do than that
                    break
                assert code == -9, f'{name}, killed at {points}: {scene.said()[-3000:]}'
                program.look(scene.work)
            else:
                scene.finish()
            aside = scene.set_aside('killed')
            found = program.end(aside)
            assert found.keys() == expected.keys(), f'{name}, killed at {points}'
            for key, value in expected.items():
                assert found[key] == value, f'{name}, killed at {points}: {key}'
            left = [path for path in aside.rglob('.*')
                    if path.name.startswith('.tmp-') or path.name.endswith('.lock')
                    and not (path.parent / 'config.gin').is_file()]
            assert not left, f'{name}, killed at {points}'
            ends += 1
    finally:
        scene.close()
    return scene.kills, ends


def of_full_disks(name, folder, times, seed, tmpfs=False):
    """Starts a program on disks that get full at random; every end is checked.

    The start fails in one line, or ends well where there was room for all; what is there then is
    whole; and with room again the same command ends as one that always had it.

    Args:
      name, folder, seed: as for `of_kills`.
      times: how many such disks.
      tmpfs: whether the disk is a file system of a random size, rather than writes that are refused
        from a random one on.

    Returns:
      How often the program failed.
    """
    program, rng = disturbed_programs.PROGRAMS[name](), random.Random(f'{name} {seed} full')
    scene, failed = disturbed.Scene(name, folder), 0
    try:
        writes = scene.finish()
        whole = scene.set_aside('whole')
        expected, pages = program.end(whole), -(-files.folder_bytes(whole) // PAGE)
        for _ in range(times):
            if tmpfs:
                size = rng.randint(2, max(3, 2 * pages)) * PAGE
                disk, what = mounted(scene.work, size), f'{name} on a disk of {size} bytes'
                fault = (None, 0)
            else:
                disk, fault = contextlib.nullcontext(), ('full', rng.randint(1, writes))
                what = f'{name}, no room from write {fault[1]} on'
            with disk:
                code, _ = scene.start(*fault)
                if code != 0:
                    _require_one_line(code, scene.said(), what)
                    failed += 1
                program.look(scene.work)
                if tmpfs:
                    remount(scene.work)
                scene.finish()
                found = program.end(scene.work)
                assert found.keys() == expected.keys(), what
                for key, value in expected.items():
                    assert found[key] == value, f'{what}: {key}'
            scene.set_aside('full')
    finally:
        scene.close()
    return failed


def _require_one_line(code, said, what):
    lines = [line for line in said.splitlines() if 'error: ' in line]
    assert code == 1 and 'Traceback' not in said, f'{what}: exit code {code}\n{said[-3000:]}'
    # A sweep ends with how many runs failed; the reason stands in the line before.
    assert lines and any('disk is full' in line for line in lines), f'{what}:\n{said[-3000:]}'


@contextlib.contextmanager
def mounted(folder, size):
    """Mounts a tmpfs of `size` bytes on a folder while the block runs."""
    _mount(folder, f'size={size}')
    try:
        yield
    finally:
        subprocess.run(['umount', str(folder)], check=True)


def remount(folder):
    """Makes such a disk large enough for all."""
    _mount(folder, f'remount,size={1 << 28}')


def _mount(folder, options):
    subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)], check=True,
                   stderr=subprocess.DEVNULL)


def can_mount(folder):
    """Whether this process may mount a tmpfs."""
    try:
        with mounted(folder, 1 << 16):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
