"""A scan and a trained model come in; labels, numbers and doubts go out, or the model for other programs."""
