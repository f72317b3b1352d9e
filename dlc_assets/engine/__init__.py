"""DeepLabCut: the only layer that imports deeplabcut or torch, and only inside functions.

It takes plain paths and values, knows neither Dagster nor the lab's settings, and raises the errors of
`dlc_assets.lab.errors`.
"""
