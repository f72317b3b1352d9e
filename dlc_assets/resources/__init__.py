"""What assets and sensors are given: the lab, and its Dagster instance. See https://docs.dagster.io/guides/build/external-resources."""
