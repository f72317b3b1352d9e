"""What the platform does by itself. See https://docs.dagster.io/guides/automate/sensors.

A sensor is a short function over the lab's state; what is behind, and why, is worked out below (state/). New partition keys go through the
instance, runs are batched by range tags with one run key a batch.
"""
