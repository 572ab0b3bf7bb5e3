"""The paper's own explanation, measured: activations, head weights, correlations, edges, receptive fields.

Measures come in two steps. The first goes through the scenes once and keeps sums per scene (`survey.survey`,
`correlation.moments`, `channels.knock_out`, `receptive.effective_fields`); the second makes figures of them, on all
scenes or on any resampling of them (`intervals.interval`).
"""
