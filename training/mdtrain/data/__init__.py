"""Training pairs: readers of data sets, paired augmentation, batches."""
