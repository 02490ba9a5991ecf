"""Own series: scenes of one place at several dates, of any bands, packed with or without labels."""
