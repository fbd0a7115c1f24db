"""The names of ONNX Runtime's graph optimisers, per version.

`optimization.disable_specified_optimizers` accepts any name silently and nothing lists them. The
transformers are those that the log of a session names at severity INFO ("GraphTransformer NAME
modified: 0"), collected on every level with the optional ones switched on, from the wheels of
1.20.1, 1.24.1, 1.31.1 and 1.32.0. The log does not name rewrite rules, which run inside two
transformers; their names were read from the string tables of the same wheels. A name that this
table lacks is still found where the log names it, and one that does nothing is noticed because
the optimised graph does not change.
"""

from __future__ import annotations

import re

#: First version that has them -> transformers. Those that a session always needs are left out:
#: copies between devices, casts for missing kernels.
TRANSFORMERS: dict[tuple[int, int], tuple[str, ...]] = {
    (1, 20): (
        "AttentionFusion",
        "BiasDropoutFusion",
        "BiasGeluFusion",
        "BiasSoftmaxFusion",
        "CommonSubexpressionElimination",
        "ConstantFolding",
        "ConstantSharing",
        "ConvActivationFusion",
        "ConvAddActivationFusion",
        "DoubleQDQPairsRemover",
        "DynamicQuantizeMatMulFusion",
        "EmbedLayerNormFusion",
        "EnsureUniqueDQForNodeUnit",
        "FastGeluFusion",
        "FreeDimensionOverrideTransformer",
        "GatherSliceToSplitFusion",
        "GatherToSliceFusion",
        "GeluApproximation",
        "GeluFusionL1",
        "GeluFusionL2",
        "GemmActivationFusion",
        "LayerNormFusionL1",
        "LayerNormFusionL2",
        "Level1_RuleBasedTransformer",
        "Level2_RuleBasedTransformer",
        "MatMulActivationFusion",
        "MatMulAddFusion",
        "MatMulIntegerToFloatFusion",
        "MatMulNBitsFusion",
        "MatMulScaleFusion",
        "MatmulTransposeFusion",
        "NchwcTransformer",
        "NhwcTransformer",
        "QDQFinalCleanupTransformer",
        "QDQPropagationTransformer",
        "QDQS8ToU8Transformer",
        "QDQSelectorActionTransformer",
        "QuickGeluFusion",
        "ReshapeFusion",
        "SimplifiedLayerNormFusion",
        "SkipLayerNormFusion",
        "TransposeOptimizer",
        "TransposeOptimizer_CPUExecutionProvider",
    ),
    (1, 24): (
        "FuseFp16InitializerToFp32NodeTransformer",
        "GroupQueryAttentionFusion",
        "WeightBiasQuantization",
        "WhereDummyDq",
    ),
    (1, 31): (
        "Avx2WeightS8ToU8Transformer",
        "BiasSkipLayerNormFusion",
        "DQMatMulNBitsFusion",
        "GroupQueryAttentionPreNormFusion",
        "SliceConcatToSpaceToDepthFusion",
    ),
    (1, 32): ("SwiGluFusion",),
}
#: First version that has them -> rewrite rules inside the rule-based transformers.
RULES: dict[tuple[int, int], tuple[str, ...]] = {
    (1, 20): (
        "CastElimination",
        "ClipQuantRewrite",
        "ConvAddFusion",
        "ConvBNFusion",
        "ConvMulFusion",
        "DivMulFusion",
        "EliminateDropout",
        "EliminateIdentity",
        "EliminateSlice",
        "ExpandElimination",
        "FuseReluClip",
        "GemmSumFusion",
        "GemmTransposeFusion",
        "LabelEncoderFusion",
        "MatMul_BatchNormalization_Fusion",
        "NoopElimination",
        "NotWhereFusion",
        "Pad_Fusion",
        "PreShapeNodeElimination",
        "ReluQuantRewrite",
        "UnsqueezeElimination",
    ),
    (1, 24): ("CastChainElimination",),
}
_RULE_BASED = "RuleBasedTransformer"
_VERSION = re.compile(r"(\d+)\.(\d+)")


def transformers(version: str) -> tuple[str, ...]:
    """Return the transformers that an ONNX Runtime of this version may have."""
    return _until(TRANSFORMERS, version)


def rules(version: str) -> tuple[str, ...]:
    """Return the rewrite rules that an ONNX Runtime of this version may have."""
    return _until(RULES, version)


def holds_rules(name: str) -> bool:
    """Return whether an optimiser is a set of rules, each of which has a name of its own."""
    return name.endswith(_RULE_BASED)


def _until(table: dict[tuple[int, int], tuple[str, ...]], version: str) -> tuple[str, ...]:
    match = _VERSION.match(version)
    newest = max(table) if match is None else (int(match[1]), int(match[2]))
    return tuple(name for since, names in table.items() if since <= newest for name in names)
