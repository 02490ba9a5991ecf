"""From packed images to batches: order, augmentation, pairs, tiles."""
