"""What is there, what is behind and why: derived from the lab's files and the store's manifests, with no Dagster."""
