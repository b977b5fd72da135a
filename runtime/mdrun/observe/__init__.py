"""What a running rig tells those who watch it: Prometheus metrics and health."""
