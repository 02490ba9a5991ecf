"""A trained model measured: a split, few labels, the RMI bound, a comparison, the dense CRF."""
