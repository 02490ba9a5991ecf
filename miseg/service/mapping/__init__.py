"""Maps of scenes and of many images by a trained model."""
