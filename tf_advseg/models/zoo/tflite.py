"""TFLite DeepLab on MobileNetV2 -> arrays under official names.

The files hold each batch norm folded into its convolution; `assignment.unfolded` writes it as an
ordinary one.
"""
import pathlib

from tf_advseg.core.errors import UserError, suggest
from tf_advseg.models.zoo import assignment, flatbuffer, graph_comparison, graph_operators

KIND = 'TFLite model'


def read(path, segmentor):
    """Reads a float or quantised TFLite DeepLab for a network.

    Convolutions are matched by the official scope in the kernel's tensor name; in a file without
    such names by their order in the graph.

    Args:
      path: of the file.
      segmentor: `deeplab.DeepLab` on MobileNetV2; output stride and crop size may differ from the
        file's.

    Returns:
      assignment.Found.

    Raises:
      UserError: damaged file; two layers of one name; a number of layers that cannot fit.
    """
    path = pathlib.Path(path)
    ours = assignment.official_layers(path, segmentor)
    contents = flatbuffer.read_convolutions(path)
    if contents.custom and not contents.convolutions:
        raise UserError(f'{path}: has no convolution, and the custom operation '
                        f'{contents.custom[0]}, which may hold them: give a file of TFLite\'s own '
                        'operations')
    arrays, origins = {}, {}
    by_scope = _by_scope(path, contents.convolutions, list(ours))
    for scope, convolution in by_scope.items():
        if scope in ours:
            named = assignment.unfolded(ours[scope], convolution.kernel, convolution.bias)
        else:
            named = {scope: convolution.kernel}
        arrays.update(named)
        origins.update({name: convolution.name.split(';')[0] for name in named})
    return assignment.Found(KIND, arrays, origins, contents.others,
                            conflicts=_conflicts(path, contents, by_scope, segmentor),
                            remarks=tuple(_remarks(contents.graph, segmentor)))


def _conflicts(path, contents, by_scope, segmentor):
    """See `graph_comparison.conflicts`; UserError for a damaged file."""
    graph = contents.graph
    try:
        form = graph_operators.form(
            graph, {convolution.operator: scope for scope, convolution in by_scope.items()})
        fed = int(graph.graph.Inputs(0))
        return tuple(graph_comparison.conflicts(form, segmentor, graph.span(fed),
                                                graph.is_floating(fed)))
    except (*flatbuffer.DAMAGE, RecursionError, ZeroDivisionError) as error:
        raise UserError(f'{path}: a damaged TFLite model ({error}): fetch it again') from error


def _remarks(graph, segmentor):
    """See `assignment.ImportReport`: SAME padding lies elsewhere on sides of another grid."""
    size, stride = graph.size(int(graph.graph.Inputs(0))), getattr(segmentor, 'output_stride', None)
    crop = getattr(segmentor, 'crop_size', None)
    if size and stride and any((side - 1) % stride for side in size) and crop != size:
        yield (f'its images are {size[0]}x{size[1]}, no k * {stride} + 1: set crop_size={size} and '
               'give it images of that size; at other sizes what is padded lies elsewhere')


def _by_scope(path, convolutions, scopes):
    """dict: our scope -> the file's convolution, by its names, in a file without by order."""
    named = [(assignment.scope_of(c.name, scopes), c) for c in convolutions]
    if not any(scope for scope, _ in named):
        if len(convolutions) != len(scopes):
            near = suggest(convolutions[0].name, scopes) if convolutions else ''
            raise UserError(f'{path}: {len(convolutions)} convolutions without official names, the '
                            f'network has {len(scopes)}: not a DeepLab of this kind.{near}')
        return dict(zip(scopes, _pooling_first(convolutions)))
    found = {}
    for scope, convolution in named:
        scope = scope or convolution.name.split(';')[0]
        if scope in found:
            raise UserError(f'{path}: two convolutions claim {scope}: {found[scope].name} and '
                            f'{convolution.name}')
        found[scope] = convolution
    return found


def _pooling_first(convolutions):
    """The file's order turned into the official one: image pooling stands before aspp0.

    The quantised files run aspp0 first. Image pooling is the convolution that reads a pool's
    output; aspp0 follows the backbone's last convolution directly.
    """
    pooled = [c for c in convolutions if c.pooled]
    rest = [c for c in convolutions if not c.pooled]
    head = 3  # aspp0, concat_projection, logits
    return rest[:-head] + pooled + rest[-head:]
