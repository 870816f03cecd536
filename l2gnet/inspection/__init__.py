"""What looks inside a trained model: a model and slices come in, codes, plans and what they do go out."""
