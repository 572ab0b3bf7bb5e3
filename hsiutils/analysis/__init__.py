"""The paper's own explanation, measured: activations, head weights, correlations, edges, receptive fields.

Measures come in two steps. The first goes through the scenes once and keeps sums per scene (`region_statistics`,
`moments`, `edge_statistics`, `skip_statistics`, `knock_out`; `survey` takes most of them from one pass); the second
makes figures of them, on all scenes or on any resampling of them (`interval`).
"""

from hsiutils.analysis.activations import (
    LabelledScenes,
    Scene,
    activation_maps,
    contributions,
    each_scene,
    head_table,
    last_layer,
    margin_weights,
    pick,
    region_statistics,
)
from hsiutils.analysis.channels import (
    class_means,
    discrimination,
    drive,
    evidence,
    homogeneity,
    iou_loss,
    knock_out,
    rank_channels,
    ranking_agreement,
)
from hsiutils.analysis.edges import border_probes, border_statistics, edge_measures, edge_profiles, edge_statistics
from hsiutils.analysis.intervals import interval
from hsiutils.analysis.receptive import effective_fields, field_layers, theoretical_fields
from hsiutils.analysis.similarity import (
    Source,
    correlation,
    counterparts,
    dead_channels,
    match_channels,
    moments,
)
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
    "skip_contributions",
    "skip_edges",
    "skip_share",
    "skip_statistics",
    "survey",
    "theoretical_fields",
]
