"""The topics this project owns: their declaration and the function that brings a cluster to it."""
