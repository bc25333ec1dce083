"""Datasets in their official layouts, as lists of files with label sets."""

from hashshield.datasets.base import LabelledFiles, Split, open_dataset

__all__ = ["LabelledFiles", "Split", "open_dataset"]
