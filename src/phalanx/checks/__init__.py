"""What is wrong with a data set: files, annotations, labels in each other's place, bones of odd place or size."""
