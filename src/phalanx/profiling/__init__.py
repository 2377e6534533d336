"""Cost of a recipe before training: parameters, multiply-adds, memory."""
