"""Frames worth labeling next: found in the poses, chosen so that no two show the same, and written as DeepLabCut's tools want them."""
