"""TensorFlow Serving's REST form of a predict request, answered by a SavedModel in this process.

What is accepted, refused and sent follows tensorflow_serving/util/json_tensor.cc: the row form
("instances" to "predictions") and the columnar one ("inputs" to "outputs"), {"b64": …} for bytes,
both ways where a tensor is called …_bytes. A check of our requests, not of their server.
"""
import base64
import contextlib
import http.server
import json
import pathlib
import re
import threading

import numpy as np
import tensorflow as tf

_PATH = re.compile(r'/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict)?')


class Refused(Exception):
    """(HTTP status, message)."""


@contextlib.contextmanager
def serving(base_path, name):
    """Serves the highest version below base_path/name; yields the URL of a free local port."""
    folder = max((p for p in (pathlib.Path(base_path) / name).iterdir() if p.name.isdecimal()),
                 key=lambda p: int(p.name))
    signatures = tf.saved_model.load(str(folder)).signatures

    class Handler(http.server.BaseHTTPRequestHandler):
        """One request."""

        def log_message(self, *_):
            """Nothing is logged."""

        def do_GET(self):
            """The model's status."""
            self._answer(lambda: {'model_version_status': [
                {'version': folder.name, 'state': 'AVAILABLE',
                 'status': {'error_code': 'OK', 'error_message': ''}}]})

        def do_POST(self):
            """A prediction."""
            body = self.rfile.read(int(self.headers['Content-Length']))
            self._answer(lambda: _predicted(signatures, body))

        def _answer(self, compute):
            match, status = _PATH.fullmatch(self.path), 200
            try:
                if not match:
                    raise Refused(400, f'Malformed request: {self.command} {self.path}')
                if match[1] != name or match[2] not in (None, folder.name):
                    raise Refused(404, f'Servable not found for request: Latest({match[1]})')
                answer = compute()
            except Refused as error:
                status, answer = error.args[0], {'error': error.args[1]}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_port}'
        finally:
            server.shutdown()


def _predicted(signatures, body):
    try:
        request = json.loads(body)
    except ValueError as error:
        raise Refused(400, f'JSON Parse error: {error}') from error
    name = request.get('signature_name', 'serving_default')
    if name not in signatures:
        raise Refused(400, f'Serving signature name: "{name}" not found in signature def')
    signature = signatures[name]
    specs = signature.structured_input_signature[1]
    if ('instances' in request) == ('inputs' in request):
        raise Refused(400, "Missing 'inputs' or 'instances' key")
    rows = 'instances' in request
    feeds = _rows(request['instances'], specs) if rows else _columns(request['inputs'], specs)
    try:
        found = {key: value.numpy() for key, value in signature(**feeds).items()}
    except (tf.errors.OpError, ValueError) as error:
        raise Refused(400, str(error)) from error
    columns = {key: [base64_object(v) for v in value.tolist()] if key.endswith('_bytes')
               else value.tolist() for key, value in found.items()}
    if len(columns) == 1:
        plain = next(iter(columns.values()))
        return {'predictions' if rows else 'outputs': plain}
    if not rows:
        return {'outputs': columns}
    return {'predictions': [dict(zip(columns, row)) for row in zip(*columns.values())]}


def base64_object(content):
    """{"b64": …} of bytes."""
    return {'b64': base64.b64encode(content).decode('ascii')}


def _is_base64(value):
    return isinstance(value, dict) and set(value) == {'b64'} and isinstance(value['b64'], str)


def _rows(instances, specs):
    if not isinstance(instances, list) or not instances:
        raise Refused(400, "Excepting 'instances' to be an list/array")
    columns = {key: [] for key in specs}
    for number, element in enumerate(instances):
        if not isinstance(element, dict) or _is_base64(element):
            element = {next(iter(specs)): element}
        if set(element) != set(specs):
            raise Refused(400, f"Failed to process element: {number} of 'instances' list. JSON "
                          f'object keys must be equal to: {",".join(specs)}')
        for key, value in element.items():
            array = _array(value, specs[key])
            if columns[key] and array.shape != columns[key][0].shape:
                raise Refused(400, f"Failed to process element: {number} of 'instances' list. "
                              f'Error: Expecting tensor size: {columns[key][0].size} but got: '
                              f'{array.size}')
            columns[key].append(array)
    return {key: tf.constant(np.stack(values)) for key, values in columns.items()}


def _columns(inputs, specs):
    if not isinstance(inputs, dict) or _is_base64(inputs):
        inputs = {next(iter(specs)): inputs}
    if set(inputs) != set(specs):
        raise Refused(400, 'Missing named input')
    return {key: tf.constant(_array(value, specs[key])) for key, value in inputs.items()}


def _array(value, spec):
    if spec.dtype == tf.string:
        def decoded(item):
            if isinstance(item, list):
                return [decoded(one) for one in item]
            if _is_base64(item):
                return base64.b64decode(item['b64'])
            if isinstance(item, str):
                return item.encode()
            raise Refused(400, f'JSON Value: {item} not formatted correctly for base64 data')
        return np.array(decoded(value), object)
    try:
        array = np.array(value)
    except ValueError as error:
        raise Refused(400, 'Encountered list at unexpected size') from error
    if array.dtype.kind != 'i' or array.min(initial=0) < 0 or array.max(initial=0) > 255:
        raise Refused(400, f'JSON Value is not of expected type: {spec.dtype.name}')
    return array.astype(spec.dtype.as_numpy_dtype)
