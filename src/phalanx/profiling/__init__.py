"""What a recipe costs before it is trained: parameters, multiply-adds, memory."""
