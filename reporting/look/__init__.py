"""The data set of an experiment as a page: what is in it, how the network gets it, and what is wrong with it."""
