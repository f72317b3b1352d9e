"""Asset checks: what a person should look at before trusting a result. See https://docs.dagster.io/guides/test/asset-checks."""

from dlc_assets.accepted_features import accept

accept()
