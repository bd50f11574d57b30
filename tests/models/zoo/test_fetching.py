"""Weights by name: downloaded once, resumed, verified, and one line where that is not possible."""
import hashlib
import http.server
import multiprocessing
import threading

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.models.zoo import catalogue
from tf_advseg.models.zoo import fetching

NAME = 'mobilenetv2_coco_voc_trainaug'
CONTENT = bytes(range(256)) * 9000  # 2.3 MB: three chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A local HTTP server of one file; counts what it is asked for."""

    def __init__(self, content=CONTENT, ranges=True, breaks_at=None, status=None):
        self.asked, outer = [], self
        self.content, self.breaks_at = content, breaks_at

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get('Range')
                outer.asked.append(wanted)
                if status:
                    self.send_error(status)
                    return
                first = int(wanted[6:-1]) if wanted and ranges else 0
                if first >= len(outer.content):
                    self.send_error(416)
                    return
                self.send_response(206 if first else 200)
                self.send_header('Content-Length', str(len(outer.content) - first))
                self.end_headers()
                last = len(outer.content) if outer.breaks_at is None else outer.breaks_at
                self.wfile.write(outer.content[first:last])

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.address = f'http://127.0.0.1:{self._server.server_port}/file.tar.gz'
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve(monkeypatch, tmp_path):
    monkeypatch.setenv('TF_ADVSEG_CACHE', str(tmp_path / 'cache'))
    made = []

    def start(**options):
        made.append(Server(**options))
        return made[-1]
    yield start
    for server in made:
        server.close()


def test_once_downloaded_it_is_kept_and_its_digest_pinned(serve, capsys):
    server = serve()
    path = fetching.fetch(f'zoo:{NAME}', server.address)
    assert path.read_bytes() == CONTENT and path.name == catalogue.entry(NAME).file
    assert f'SHA-256 {DIGEST} is pinned' in capsys.readouterr().out
    assert fetching.pinned()[path.name]['sha256'] == DIGEST
    assert fetching.fetch(NAME, server.address) == path
    assert server.asked == [None]
    assert 'pinned' not in capsys.readouterr().out
    assert not list(path.parent.glob('*.part'))


def test_a_download_that_broke_off_goes_on(serve):
    server = serve(breaks_at=len(CONTENT) // 2)
    with pytest.raises(UserError, match='goes on'):
        fetching.fetch(NAME, server.address)
    part = next((fetching.cache_folder() / 'archives').glob('*.part'))
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    server.breaks_at = None
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT
    assert server.asked == [None, f'bytes={have}-']


def test_a_server_that_cannot_resume_sends_all_again(serve):
    server = serve(ranges=False, breaks_at=1000)
    with pytest.raises(UserError):
        fetching.fetch(NAME, server.address)
    server.breaks_at = None
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT


def test_a_part_as_long_as_the_file_begins_anew(serve):
    server = serve()
    folder = fetching.cache_folder() / 'archives'
    folder.mkdir(parents=True)
    (folder / (catalogue.entry(NAME).file + '.part')).write_bytes(b'x' * (len(CONTENT) + 5))
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_another_content_than_was_pinned_is_named(serve):
    server = serve()
    path = fetching.fetch(NAME, server.address)
    path.write_bytes(CONTENT[:-1] + b'?')
    with pytest.raises(UserError, match='SHA-256 is .* expected ' + DIGEST):
        fetching.fetch(NAME, server.address)
    path.unlink()
    assert fetching.fetch(NAME, server.address).read_bytes() == CONTENT
    server.content = CONTENT + b'more'  # the publisher has changed it
    path.unlink()
    with pytest.raises(UserError, match='if the publisher has changed the file'):
        fetching.fetch(NAME, server.address)


def test_no_network_and_no_such_file_are_one_line(serve):
    gone = serve()
    address = gone.address
    gone.close()
    with pytest.raises(UserError, match='cannot be downloaded .* give its path') as caught:
        fetching.fetch(NAME, address)
    assert '\n' not in str(caught.value)
    with pytest.raises(UserError, match='the server answers 404'):
        fetching.fetch(NAME, serve(status=404).address)
    with pytest.raises(UserError, match='model of the zoo'):
        fetching.fetch('zoo:mobilnet')


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


def test_a_damaged_pin_file_is_one_line(serve):
    server = serve()
    fetching.fetch(NAME, server.address)
    (fetching.cache_folder() / fetching.PINS).write_text('{')
    with pytest.raises(UserError, match='pins.json'):
        fetching.fetch(NAME, server.address)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv('TF_ADVSEG_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert fetching.cache_folder() == tmp_path / 'tf_advseg'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert fetching.cache_folder().parts[-2:] == ('.cache', 'tf_advseg')


def test_the_listing_says_what_is_pinned(serve):
    assert 'pinned' not in catalogue.listing(fetching.pinned())
    fetching.fetch(NAME, serve().address)
    lines = catalogue.listing(fetching.pinned()).splitlines()
    named = next(line for line in lines if catalogue.entry(NAME).address in line)
    assert f'SHA-256 {DIGEST[:8]}… pinned ' in named
    assert sum('pinned' in line for line in lines) == 1
