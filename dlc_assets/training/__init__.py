"""From a DeepLabCut project's labels to a trained and evaluated model."""
