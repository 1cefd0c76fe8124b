"""The operators: one definition each, with shapes, units and errors, for every device."""
