"""Pictures of a data set and of what happens to its images, by ``phalanx show``."""
