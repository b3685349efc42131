"""Text to scores: accuracy with intervals, predictions in the authors' format."""
