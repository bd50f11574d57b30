"""Which operations of somebody else's graph TensorFlow is allowed to run: arithmetic only.

A graph is a program: TensorFlow has operations that read and write files, call Python or open
sockets, and runs them without asking, as control inputs too. So the operations are held against a
list of those that compute, and anything else is refused before the graph is imported.
"""
from tf_advseg.core.errors import UserError

_ARRAYS = """
    BatchToSpace BatchToSpaceND BroadcastArgs BroadcastGradientArgs BroadcastTo Concat ConcatV2
    Const DepthToSpace EnsureShape ExpandDims ExtractImagePatches Fill Gather GatherNd GatherV2
    Identity IdentityN InvertPermutation LinSpace MirrorPad OneHot OnesLike Pack Pad PadV2
    ParallelConcat Placeholder PlaceholderV2 PlaceholderWithDefault Range Rank Reshape Reverse
    ReverseSequence ReverseV2 ScatterNd Shape ShapeN Size Slice Snapshot SpaceToBatch
    SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice Tile Transpose
    Unpack Where ZerosLike"""
_MATHEMATICS = """
    Abs Add AddN AddV2 All Any ArgMax ArgMin BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd
    BiasAddV1 Cast Ceil ClipByValue Cumprod Cumsum Div DivNoNan Equal Exp Expm1 Floor FloorDiv
    FloorMod Greater GreaterEqual Inv IsFinite IsInf IsNan Less LessEqual Log Log1p LogicalAnd
    LogicalNot LogicalOr MatMul Max Maximum Mean Min Minimum Mod Mul MulNoNan Neg NotEqual Pow
    Prod RealDiv Reciprocal Rint Round Rsqrt Select SelectV2 Sigmoid Sign Sqrt Square
    SquaredDifference Sub Sum Tanh TopK TopKV2 TruncateDiv TruncateMod"""
_NETWORKS = """
    AvgPool Conv2D CropAndResize DepthwiseConv2dNative Dilation2D Elu FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D L2Loss LRN LeakyRelu
    LogSoftmax MaxPool MaxPoolV2 Relu Relu6 ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor Selu Softmax Softplus Softsign"""
_QUANTISATION = """
    Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeV2"""
# Assert stops a run; the arrays of TensorArray live in memory. Nothing here calls a function.
_CONTROL = """
    Assert CheckNumerics ControlTrigger Enter Exit LoopCond Merge NextIteration NoOp RefEnter
    RefExit RefIdentity RefMerge RefNextIteration RefSwitch Switch TensorArrayConcatV3
    TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3
    TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3"""
OPERATIONS = frozenset(' '.join((_ARRAYS, _MATHEMATICS, _NETWORKS, _QUANTISATION,
                                 _CONTROL)).split())


def require_harmless(path, definition):
    """Raises UserError unless all that a graph can do is compute.

    The bodies of its functions count, whether they are called or not. Calls of functions are not
    on the list: graphs of TensorFlow 1 have none.

    Args:
      path: for the message.
      definition: GraphDef.
    """
    bodies = [definition.node, *(each.node_def for each in definition.library.function)]
    for body in bodies:
        for node in body:
            if node.op not in OPERATIONS:
                raise UserError(f'{path}: not run: node {node.name} is {node.op}, which is not '
                                'among the operations of an inference graph that only compute; '
                                'import without running the graph, or get it from a source you '
                                'trust')
