"""Reports: what analysis found, rendered for people; nothing is computed or measured here."""
