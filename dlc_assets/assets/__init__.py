"""The software-defined assets: what depends on what, one module per group of the graph.

See https://docs.dagster.io/guides/build/assets. An asset's body gets its inputs, calls one function of the work layer and reports;
the work itself lies below, without Dagster.
"""

from dlc_assets.accepted_features import accept

accept()
