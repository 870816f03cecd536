"""Predictions against truth: labels and masks come in, scores, comparisons and costs go out."""
