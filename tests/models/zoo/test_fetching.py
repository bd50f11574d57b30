"""Weights by name: downloaded once, resumed, verified, and one line where that is not possible."""
import hashlib
import http.server
import io
import multiprocessing
import tarfile
import threading

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.models.zoo import catalogue
from tf_advseg.models.zoo import fetching

NAME = 'mobilenetv2_coco_voc_trainaug'


def archive(seed=1):
    """Bytes of a .tar.gz that does not become small: three chunks of a download."""
    content = np.random.default_rng(seed).integers(0, 256, 2300000).astype(np.uint8).tobytes()
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode='w:gz') as tar:
        member = tarfile.TarInfo('model.ckpt.data-00000-of-00001')
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return whole.getvalue()


CONTENT = archive()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A local HTTP server of one file; keeps what it is asked for."""

    def __init__(self, content=CONTENT, ranges=True, breaks_at=None, status=None, length=True,
                 shift=0):
        self.asked, outer = [], self
        self.content, self.breaks_at = content, breaks_at

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get('Range')
                outer.asked.append(wanted)
                if status:
                    self.send_error(status)
                    return
                mark = hashlib.md5(outer.content).hexdigest()
                same = self.headers.get('If-Range') == mark
                first = int(wanted[6:-1]) if wanted and ranges and same else 0
                if first and first >= len(outer.content):
                    self.send_error(416)
                    return
                self.send_response(206 if first else 200)
                self.send_header('ETag', mark)
                if first:
                    first += shift
                    self.send_header('Content-Range', f'bytes {first}-{len(outer.content) - 1}/'
                                                      f'{len(outer.content)}')
                if length:
                    self.send_header('Content-Length', str(len(outer.content) - first))
                self.end_headers()
                last = len(outer.content) if outer.breaks_at is None else outer.breaks_at
                self.wfile.write(outer.content[first:last])

            def log_message(self, *_):
                """Keeps the server's lines out of what a test reads."""

        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.address = f'http://127.0.0.1:{self._server.server_port}/file.tar.gz'
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve(monkeypatch, tmp_path):
    monkeypatch.setenv('TF_ADVSEG_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('TF_ADVSEG_OFFLINE')
    made = []

    def start(**options):
        made.append(Server(**options))
        return made[-1]
    yield start
    for server in made:
        server.close()


def left(end=''):
    """Names of the files in the cache that end so."""
    return sorted(path.name for path in (fetching.cache_folder() / 'archives').glob(f'*{end}'))


def test_once_downloaded_it_is_kept_and_its_digest_pinned(serve, capsys):
    server = serve()
    path = fetching.fetch(f'zoo:{NAME}', server.address)
    assert path.read_bytes() == CONTENT and path.name == catalogue.entry(NAME).file
    assert f'SHA-256 {DIGEST} is pinned' in capsys.readouterr().out
    assert fetching.known_digest(catalogue.entry(NAME)) == DIGEST
    assert fetching.fetch(NAME, server.address) == path
    assert server.asked == [None]
    assert 'pinned' not in capsys.readouterr().out
    assert left() == sorted([path.name, path.name + '.pin.json'])


def test_a_download_that_broke_off_goes_on(serve):
    server = serve(breaks_at=len(CONTENT) // 2)
    with pytest.raises(UserError, match='goes on'):
        fetching.fetch(NAME, server.address)
    part = fetching.cache_folder() / 'archives' / left('.part')[0]
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    server.breaks_at = None
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT
    assert server.asked == [None, f'bytes={have}-']


@pytest.mark.parametrize('length', [True, False])
def test_a_process_that_was_killed_behind_the_last_byte_goes_on(serve, monkeypatch, length):
    def killed(*_):
        raise KeyboardInterrupt
    server = serve(length=length)
    with monkeypatch.context() as patch:
        patch.setattr(fetching, '_require_archive', killed)
        with pytest.raises(KeyboardInterrupt):
            fetching.fetch(NAME, server.address)
    assert left('.part') and not left('.tar.gz')
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT
    assert server.asked == [None, f'bytes={len(CONTENT)}-']  # the server answers 416
    assert not left('.part')


def test_a_file_that_has_changed_meanwhile_is_begun_anew(serve):
    server = serve(breaks_at=len(CONTENT) // 2)
    with pytest.raises(UserError):
        fetching.fetch(NAME, server.address)
    server.content, server.breaks_at = archive(2), None
    assert fetching.fetch(NAME, server.address).read_bytes() == server.content


@pytest.mark.parametrize('options', [{'ranges': False}, {'length': False}])
def test_a_server_that_cannot_resume_or_tell_the_length(serve, options):
    server = serve(breaks_at=1000, **options)
    with pytest.raises(UserError):
        fetching.fetch(NAME, server.address)
    assert not left('.pin.json') and not left('.tar.gz')
    server.breaks_at = None
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT


def test_a_server_that_sends_another_part_is_told(serve):
    server = serve(breaks_at=len(CONTENT) // 2, shift=7)
    for words in ('goes on', 'another part'):
        with pytest.raises(UserError, match=words):
            fetching.fetch(NAME, server.address)


@pytest.mark.parametrize('content', [b'<html>please log in</html>', b'', CONTENT[:-5000],
                                     b'\x1f\x8b' + b'x' * 4000])
def test_an_answer_that_is_not_the_file_is_neither_kept_nor_pinned(serve, content):
    server = serve(content=content)
    with pytest.raises(UserError, match=r'no whole .tar.gz; expected the weights of .* 23 MB'):
        fetching.fetch(NAME, server.address)
    assert not left('.pin.json') and not left('.part') and not left('.tar.gz')
    server.content = CONTENT
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT


def test_another_content_than_was_pinned_is_named(serve):
    server = serve()
    path = fetching.fetch(NAME, server.address)
    path.write_bytes(CONTENT[:-1] + b'?')
    with pytest.raises(UserError, match='SHA-256 is .* expected ' + DIGEST):
        fetching.fetch(NAME, server.address)
    path.unlink()
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT
    server.content = archive(3)  # the publisher has changed it
    path.unlink()
    with pytest.raises(UserError, match='pin.json too if the publisher has changed the file'):
        fetching.fetch(NAME, server.address)


def test_no_network_and_no_such_file_are_one_line(serve):
    gone = serve()
    address = gone.address
    gone.close()
    for where, words in ((address, 'cannot be downloaded'), ('http://[', 'cannot be downloaded'),
                         (serve(status=404).address, 'the server answers 404')):
        with pytest.raises(UserError, match=words) as caught:
            fetching.fetch(NAME, where)
        assert '\n' not in str(caught.value) and 'put it at' in str(caught.value)
    with pytest.raises(UserError, match='model of the zoo'):
        fetching.fetch('zoo:mobilnet')


def test_what_is_not_built_is_not_downloaded(serve):
    server = serve()
    with pytest.raises(UserError, match='not built here'):
        fetching.fetch('zoo:xception71_dpc_cityscapes_trainfine', server.address)
    assert server.asked == []


def test_a_cache_that_can_only_be_read_will_do(serve):
    server = serve()
    path = fetching.fetch(NAME, server.address)
    for folder in (path.parent, fetching.cache_folder()):
        folder.chmod(0o555)
    try:
        assert fetching.fetch(NAME, server.address) == path
    finally:
        for folder in (fetching.cache_folder(), path.parent):
            folder.chmod(0o755)


def _fetch(address, results):
    results.put(str(fetching.fetch(NAME, address)))


def test_two_processes_download_it_once(serve):
    server = serve()
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    workers = [context.Process(target=_fetch, args=(server.address, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(found) == 1 and server.asked == [None]


@pytest.mark.parametrize('text', ['{', '[]', '{"sha256": 3}'])
def test_a_damaged_pin_is_one_line(serve, text):
    server = serve()
    path = fetching.fetch(NAME, server.address)
    (path.parent / (path.name + '.pin.json')).write_text(text)
    with pytest.raises(UserError, match='pin.json'):
        fetching.fetch(NAME, server.address)


def test_offline_nothing_is_asked_for_and_what_is_there_serves(serve, monkeypatch):
    server = serve()
    monkeypatch.setenv('TF_ADVSEG_OFFLINE', '1')
    with pytest.raises(UserError, match=f'{NAME}: is not in the cache.*TF_ADVSEG_OFFLINE forbids'):
        fetching.fetch(NAME, server.address)
    assert not server.asked
    monkeypatch.setenv('TF_ADVSEG_OFFLINE', '0')
    path = fetching.fetch(NAME, server.address)
    monkeypatch.setenv('TF_ADVSEG_OFFLINE', '1')
    assert fetching.fetch(NAME, server.address) == path and len(server.asked) == 1


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv('TF_ADVSEG_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert fetching.cache_folder() == tmp_path / 'tf_advseg'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert fetching.cache_folder().parts[-2:] == ('.cache', 'tf_advseg')


def test_the_listing_says_what_is_pinned(serve):
    assert 'pinned' not in catalogue.listing(fetching.pin_of)
    fetching.fetch(NAME, serve().address)
    lines = catalogue.listing(fetching.pin_of).splitlines()
    named = next(line for line in lines if catalogue.entry(NAME).address in line)
    assert f'SHA-256 {DIGEST[:8]}… pinned ' in named
    assert sum(' pinned ' in line for line in lines) == 1
    assert sum('no digest yet' in line for line in lines) == len(catalogue.ENTRIES) - 1


def test_addresses_are_over_https():
    addresses = {fetching.address_of(entry) for entry in catalogue.ENTRIES.values()}
    assert all(address.startswith('https://storage.googleapis.com/') for address in addresses)
    assert len(addresses) == len(catalogue.ENTRIES)
