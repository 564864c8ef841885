"""The last step: contracts on the lists, then the pointer, then copies for others."""
