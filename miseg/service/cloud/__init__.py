"""Programs on a cluster head or node (`python -m`): budget guard, spot notices, fall-back, dashboards."""
