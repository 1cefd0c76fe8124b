"""The commands of the command line, one module for each or for each group of them."""
