"""Images of predictions and ground truth side by side."""
