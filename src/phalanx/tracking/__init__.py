"""Records a training: JSON lines always; TensorBoard, Weights & Biases and MLflow on request."""
