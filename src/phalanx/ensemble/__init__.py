"""Predicting members and voting them, soft and hard, and tuning a vote on out-of-fold predictions."""
