"""docs/serving.md: an exported SavedModel in TensorFlow Serving's form, its Dockerfile and client.

The server is tests/helpers/rest_server.py, which keeps to the REST contract; the real one is not
here.
"""
import http.server
import importlib.util
import json
import pathlib
import re
import shlex
import shutil
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import rest_server
from PIL import Image

from tf_advseg.evaluation import prediction
from tf_advseg.experiments.convert import exporting
from tf_advseg.models.zoo import saved_model
from tf_advseg.reporting import panels

SIDE = 49
BASE_PATH = '/models'  # MODEL_BASE_PATH of tensorflow/serving's own Dockerfile


@pytest.fixture(scope='module')
def client(repository):
    """docs/serving/client.py as a module."""
    spec = importlib.util.spec_from_file_location(
        'docs_serving_client', repository / 'docs' / 'serving' / 'client.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def dockerfile(repository):
    """[(instruction, words)] of docs/serving/Dockerfile, continued lines joined."""
    text = (repository / 'docs' / 'serving' / 'Dockerfile').read_text(encoding='utf-8')
    lines = re.sub(r'\\\n', ' ', text).splitlines()
    return [(line.split()[0].upper(), shlex.split(line)[1:]) for line in lines
            if line.strip() and not line.startswith('#')]


@pytest.fixture(scope='module')
def environment(dockerfile):
    """The variables that the Dockerfile sets."""
    return dict(word.split('=', 1) for name, words in dockerfile if name == 'ENV'
                for word in words)


@pytest.fixture(scope='module')
def container(deeplab_folder, dockerfile, tmp_path_factory):
    """The root of the file system that the Dockerfile builds of an export, by its COPY lines."""
    context = tmp_path_factory.mktemp('serving') / 'exported'
    exporting.export(deeplab_folder[1], context)
    root = tmp_path_factory.mktemp('root')
    for name, words in dockerfile:
        if name == 'COPY':
            source, target = context / words[0], root / words[1].lstrip('/')
            assert words[1].endswith('/') and len(words) == 2
            if source.is_dir():  # COPY copies what is in it
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    return root, context


@pytest.fixture(scope='module')
def url(container, environment):
    """Of a server of what the container has at the place where its variables point."""
    with rest_server.serving(container[0] / BASE_PATH.lstrip('/'),
                             environment['MODEL_NAME']) as found:
        yield found


@pytest.fixture(scope='module')
def image(made_run):
    return made_run.data.records.load(made_run.data.test[0])[0]


def posted(url, request, model='segmentor'):
    """The answer to a request as json."""
    with urllib.request.urlopen(urllib.request.Request(
            f'{url}/v1/models/{model}:predict', json.dumps(request).encode())) as response:
        return json.loads(response.read())


def test_the_dockerfile_has_a_whole_saved_model_where_the_server_looks(
        container, environment, dockerfile):
    root, context = container
    version = root / BASE_PATH.lstrip('/') / environment['MODEL_NAME'] / '1'
    assert version.is_dir() and (version / saved_model.FILE).is_file()
    # All that TensorFlow wrote for the SavedModel is copied but for its fingerprint, which no
    # server asks for; nothing of ours is.
    names = {path.relative_to(version).as_posix() for path in version.rglob('*') if path.is_file()}
    assert names == {'saved_model.pb', 'variables/variables.index',
                     'variables/variables.data-00000-of-00001'}
    there = {path.relative_to(context).as_posix() for path in context.rglob('*') if path.is_file()}
    assert there - names <= {'fingerprint.pb', 'model.json', 'export.json'}
    assert [name for name, _ in dockerfile].index('FROM') == 1  # its ARG may stand before it
    image, = next(words for name, words in dockerfile if name == 'FROM')
    assert image == 'tensorflow/serving:${SERVING}'


def test_the_page_the_dockerfile_and_the_client_agree(repository, dockerfile, environment, client):
    page = (repository / 'docs' / 'serving.md').read_text(encoding='utf-8')
    model = environment['MODEL_NAME']
    assert client.MODEL == model and client.SIGNATURE == saved_model.ENCODED
    assert client.INPUT == saved_model.IMAGE_BYTES
    port, = next(words for name, words in dockerfile if name == 'EXPOSE')
    assert client.URL == f'http://localhost:{port}'
    for text in (f'-p {port}:{port}', f'/v1/models/{model}:predict', f'MODEL_NAME={model}',
                 f':{BASE_PATH}/{model}/1', 'docs/serving/Dockerfile', 'docs/serving/client.py',
                 f'"signature_name": "{saved_model.ENCODED}"', saved_model.CLASS_MAP_BYTES):
        assert text in page, text
    argument = next(words[0] for name, words in dockerfile if name == 'ARG')
    assert f'--build-arg {argument.split("=")[0]}=' in page


def test_the_client_writes_the_class_map_of_the_network(
        client, url, container, deeplab_folder, made_run, image, tmp_path, capsys):
    Image.fromarray(image).save(tmp_path / 'in.png')
    output = tmp_path / 'out.png'
    assert client.main([str(tmp_path / 'in.png'), f'--url={url}', f'--output={output}',
                        f'--classes={container[1] / "model.json"}']) == 0
    assert capsys.readouterr().out.split() == [str(output), str(tmp_path / 'out_overlay.png')]
    written = Image.open(output)
    ids = prediction.predict(deeplab_folder[0], image, (SIDE, SIDE))
    assert written.mode == 'P' and len(set(ids.flat)) > 1
    assert np.mean(np.array(written) == ids) > 0.999
    palette = made_run.data.spec.palette
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / 'out_overlay.png')),
                                  panels.overlay(image, np.array(written), palette))
    np.testing.assert_array_equal(np.array(written.convert('RGB')),
                                  panels.colourise(np.array(written), palette))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['in.png', 'out.png', 'out_overlay.png']


def test_the_forms_of_a_request(url, image):
    encoded = rest_server.base64_object(panels.encode_png(image))
    named = posted(url, {'signature_name': 'encoded', 'instances': [{'image_bytes': encoded}]})
    plain = posted(url, {'signature_name': 'encoded', 'instances': [encoded, encoded]})
    assert plain['predictions'] == named['predictions'] * 2 and set(plain) == {'predictions'}
    columns = posted(url, {'signature_name': 'encoded', 'inputs': {'image_bytes': [encoded]}})
    assert columns == {'outputs': named['predictions']}
    numbers = posted(url, {'signature_name': 'class_map', 'instances': [image.tolist()]})
    ids = np.array(numbers['predictions'][0])
    assert ids.shape == image.shape[:2]
    whole = posted(url, {'instances': [{'image': image.tolist()}]})['predictions'][0]
    assert set(whole) == {'class_map', 'probabilities'}
    assert np.shape(whole['probabilities']) == (*ids.shape, 8)
    assert np.mean(np.array(whole['class_map']) == ids) > 0.999
    with urllib.request.urlopen(f'{url}/v1/models/segmentor') as response:
        status = json.loads(response.read())['model_version_status'][0]
    assert (status['version'], status['state']) == ('1', 'AVAILABLE')


def test_mistakes_are_one_line_and_leave_nothing(client, url, image, tmp_path, capsys):
    Image.fromarray(image).save(tmp_path / 'in.png')
    (tmp_path / 'text.png').write_text('no image')
    good, out = str(tmp_path / 'in.png'), f'--output={tmp_path}/out.png'
    before = sorted(tmp_path.iterdir())
    for words, text in (
            ([good, '--url=http://127.0.0.1:1'], 'http://127.0.0.1:1: no server answers there'),
            ([good, '--url=nonsense'], 'nonsense: this is no TensorFlow Serving'),
            ([good, f'--url={url}', '--model=other'], 'the server has no model "other" (404: Serv'),
            ([str(tmp_path / 'text.png'), f'--url={url}'], 'text.png: is no image'),
            ([str(tmp_path / 'absent.png'), f'--url={url}'], 'absent.png: is no image'),
            ([good, f'--url={url}', f'--classes={good}'], 'is no model.json'),
            ([good, f'--url={url}', f'--output={tmp_path}/no/x.png'], 'x.png: cannot be written')):
        assert client.main([words[0], out, *words[1:]]) == 1
        captured = capsys.readouterr()
        assert captured.err.count('\n') == 1 and captured.err.startswith('error: ')
        assert text in captured.err and captured.out == ''
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def answering():
    """Function of (status, bytes) -> URL of a server that says nothing else."""
    servers = []

    def start(status, content):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                """Says nothing on the terminal."""

            def do_POST(self):
                self.rfile.read(int(self.headers['Content-Length']))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

        servers.append(http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f'http://127.0.0.1:{servers[-1].server_port}'

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_answers_that_are_none(client, answering, image):
    small = panels.encode_png(np.zeros((3, 4), np.uint8))
    for status, content, text in (
            (200, json.dumps({'predictions': [rest_server.base64_object(small)]}).encode(),
             'the class map has the size 4x3, the image'),
            (200, b'<html>', 'this is no TensorFlow Serving'),
            (200, b'{"predictions": [3]}', 'holds no class map'),
            (200, b'{"predictions": [{"b64": "AAAA"}]}', 'holds no class map'),
            (400, b'{"error": "Serving signature name: \\"encoded\\" not found"}',
             'refuses the image .400: Serving signature name'),
            (500, b'a proxy\'s\npage', "500: a proxy's page")):
        with pytest.raises(client.ServingError, match=text) as caught:
            client.class_map(image, answering(status, content))
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('request_, status, text', [
    ({'signature_name': 'none', 'instances': [1]}, 400, 'not found in signature def'),
    ({'signature_name': 'encoded', 'instances': [{'b64': 'AAAA'}]}, 400, 'DecodeImage|image'),
    ({'signature_name': 'class_map', 'instances': [[[[1, 2, 3]]], [[[1, 2, 3], [1, 2, 3]]]]}, 400,
     'Expecting tensor size: 3 but got: 6'),
    ({}, 400, 'Missing')])
def test_what_the_server_refuses(url, request_, status, text):
    with pytest.raises(urllib.error.HTTPError) as caught:
        posted(url, request_)
    assert caught.value.code == status
    assert re.search(text, json.loads(caught.value.read())['error'])


def test_the_client_needs_nothing_but_numpy_and_pillow(repository, client):
    text = (repository / 'docs' / 'serving' / 'client.py').read_text(encoding='utf-8')
    found = set(re.findall(r'^(?:import|from) (\w+)', text, re.M))
    standard = {'argparse', 'base64', 'binascii', 'io', 'json', 'os', 'pathlib', 'sys', 'urllib'}
    assert found == standard | {'numpy', 'PIL'}
    assert pathlib.Path(client.__file__).parent == repository / 'docs' / 'serving'


def test_without_model_json_the_colours_are_those_of_pascal_voc(client):
    from tf_advseg.data import official_specs
    palette = np.array(official_specs.SPECS['pascal_voc_2012'].palette)
    np.testing.assert_array_equal(client.colours()[:21], palette)
