"""Images that are too large to be read are told so, and with them no advice about attacks."""
import struct
import subprocess
import sys
import zlib

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.data.readers import base


def png(width, height, rows=b''):
    """A grey PNG's bytes, of any size that its head may claim."""
    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))

    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head)
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


@pytest.mark.parametrize('read', [base.read_image, base.read_id_png, base.usable_bytes])
def test_the_limit_is_named(tmp_path, read):
    path = tmp_path / 'aerial.png'
    path.write_bytes(png(14000, 13000))
    with pytest.raises(UserError, match='aerial.png: 182 megapixels, and images of up to 179 are '
                       'read; cut it into tiles or shrink it') as caught:
        read(path)
    assert 'attack' not in str(caught.value) and 'fetch' not in str(caught.value)


def test_large_images_below_it_are_read_without_a_warning(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(png(10, 10, 10 * (b'\0' + 10 * b'\7')))
    done = subprocess.run([sys.executable, '-c', (
        'import sys; from PIL import Image; from tf_advseg.data.readers import base; '
        'Image.MAX_IMAGE_PIXELS = 60; print(base.read_image(sys.argv[1]).mean())'), path],
        capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ('7.0\n', '')
