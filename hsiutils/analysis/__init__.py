"""The paper's own explanation, measured: activations, head weights, correlations, edges, receptive fields.

Measures come in two steps. The first goes through the scenes once and keeps sums per scene (`region_statistics`,
`moments`, `edge_statistics`, `skip_statistics`, `knock_out`; `survey` takes most of them from one pass); the second
makes figures of them, on all scenes or on any resampling of them (`interval`).
"""

from hsiutils.analysis.activations import activation_maps, last_layer, region_statistics
from hsiutils.analysis.bootstrap import interval
from hsiutils.analysis.channels import (
    class_means,
    discrimination,
    iou_loss,
    knock_out,
    rank_channels,
    ranking_agreement,
)
from hsiutils.analysis.correlation import (
    Source,
    correlation,
    counterparts,
    dead_channels,
    match_channels,
    moments,
    similarity,
    similarity_table,
)
from hsiutils.analysis.drive import drive, evidence, homogeneity
from hsiutils.analysis.edges import border_statistics, edge_measures, edge_profiles, edge_statistics
from hsiutils.analysis.head import contributions, head_table, margin_weights
from hsiutils.analysis.probes import border_probes
from hsiutils.analysis.receptive import effective_fields, field_layers, theoretical_fields
from hsiutils.analysis.scenes import LabelledScenes, Scene, each_scene, pick
from hsiutils.analysis.skip import skip_contributions, skip_edges, skip_share, skip_statistics
from hsiutils.analysis.survey import Subject, survey

__all__ = [
    "LabelledScenes",
    "Scene",
    "Source",
    "Subject",
    "activation_maps",
    "border_probes",
    "border_statistics",
    "class_means",
    "contributions",
    "correlation",
    "counterparts",
    "dead_channels",
    "discrimination",
    "drive",
    "each_scene",
    "edge_measures",
    "edge_profiles",
    "edge_statistics",
    "effective_fields",
    "evidence",
    "field_layers",
    "head_table",
    "homogeneity",
    "interval",
    "iou_loss",
    "knock_out",
    "last_layer",
    "margin_weights",
    "match_channels",
    "moments",
    "pick",
    "rank_channels",
    "ranking_agreement",
    "region_statistics",
    "similarity",
    "similarity_table",
    "skip_contributions",
    "skip_edges",
    "skip_share",
    "skip_statistics",
    "survey",
    "theoretical_fields",
]
