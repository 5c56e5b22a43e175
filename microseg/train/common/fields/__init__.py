"""The fields of a training set: how they are kept, and how they are split."""
