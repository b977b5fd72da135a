"""Speed and accuracy tables."""
