"""Reading published layouts, packing into Parquet, joint augmentation, the order of training: no torch, no Ray."""
