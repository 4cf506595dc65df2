"""Shared blocks of the architectures.

Names load on first use, so that an architecture's file, which holds its configuration too, can be
read without importing Keras.
"""

from importlib import import_module

from ctr_tf.layers import names as names

_HOME = {
    "ActivationUnit": "ctr_tf.layers.attention.target",
    "BiLSTM": "ctr_tf.layers.sequence.recurrent",
    "Bilinear": "ctr_tf.layers.interaction.bilinear",
    "BilinearAttention": "ctr_tf.layers.attention.folded",
    "CIN": "ctr_tf.layers.interaction.cin",
    "CoAction": "ctr_tf.layers.interaction.co_action",
    "Cross": "ctr_tf.layers.interaction.cross",
    "CrossAttention": "ctr_tf.layers.attention.multi_head",
    "CrossBlock": "ctr_tf.layers.sequence.transformer",
    "CrossExperts": "ctr_tf.layers.interaction.cross",
    "CrossVectors": "ctr_tf.layers.interaction.cross_vectors",
    "Dice": "ctr_tf.layers.activation",
    "EmbeddingTables": "ctr_tf.layers.embedding.tables",
    "Encoder": "ctr_tf.layers.sequence.transformer",
    "EncoderBlock": "ctr_tf.layers.sequence.transformer",
    "FeatureGate": "ctr_tf.layers.interaction.gate",
    "FieldAttention": "ctr_tf.layers.attention.fields",
    "FieldAwarePairs": "ctr_tf.layers.interaction.field_aware",
    "FieldMatrices": "ctr_tf.layers.interaction.pairs",
    "FieldWeights": "ctr_tf.layers.interaction.pairs",
    "FoldedUnit": "ctr_tf.layers.attention.folded",
    "GRU": "ctr_tf.layers.sequence.recurrent",
    "InnerProducts": "ctr_tf.layers.interaction.products",
    "ItemFrequency": "ctr_tf.layers.retrieval.frequency",
    "KernelProducts": "ctr_tf.layers.interaction.products",
    "LSTM": "ctr_tf.layers.sequence.recurrent",
    "LayerNorm": "ctr_tf.layers.layer_norm",
    "MLP": "ctr_tf.layers.dense",
    "MaskedBatchNorm": "ctr_tf.layers.normalization",
    "Mixture": "ctr_tf.layers.experts.mixture",
    "ModelPatch": "ctr_tf.layers.sequence.patch",
    "NextBehaviourLoss": "ctr_tf.layers.sequence.next_behaviour",
    "Packing": "ctr_tf.layers.packing",
    "ParallelDense": "ctr_tf.layers.experts.parallel",
    "ParallelMLP": "ctr_tf.layers.experts.parallel",
    "PartAttention": "ctr_tf.layers.attention.parts",
    "QueryingTransformer": "ctr_tf.layers.sequence.querying",
    "RowAttention": "ctr_tf.layers.attention.parts",
    "SENET": "ctr_tf.layers.interaction.bilinear",
    "SelfAttention": "ctr_tf.layers.attention.multi_head",
    "SessionInterests": "ctr_tf.layers.sequence.session_interests",
    "Sessions": "ctr_tf.layers.sequence.sessions",
    "SplitDense": "ctr_tf.layers.dense",
    "SplitMLP": "ctr_tf.layers.dense",
    "TableSpec": "ctr_tf.layers.embedding.tables",
    "TargetTransformer": "ctr_tf.layers.sequence.target_transformer",
    "UniAttention": "ctr_tf.layers.sequence.uni_attention",
    "by_field": "ctr_tf.layers.shapes",
    "chosen": "ctr_tf.layers.packing",
    "concat": "ctr_tf.layers.shapes",
    "fm_second_order": "ctr_tf.layers.interaction.fm",
    "fm_sums": "ctr_tf.layers.interaction.fm",
    "masked_softmax": "ctr_tf.layers.attention.folded",
    "outer_product": "ctr_tf.layers.interaction.products",
    "over_candidates": "ctr_tf.layers.shapes",
    "pair_state": "ctr_tf.layers.interaction.pairs",
    "pair_sums": "ctr_tf.layers.interaction.pairs",
    "per_candidate": "ctr_tf.layers.shapes",
    "placed": "ctr_tf.layers.packing",
    "pool": "ctr_tf.layers.sequence.pooling",
    "product_sizes": "ctr_tf.layers.interaction.products",
    "sample_values": "ctr_tf.layers.sampling",
    "split": "ctr_tf.layers.shapes",
    "stacked": "ctr_tf.layers.shapes",
}

__all__ = ["names", *sorted(_HOME)]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'ctr_tf.layers' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
