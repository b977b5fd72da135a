"""Live cameras: a connection each, a thread each, explicit states, and a way back after every loss."""
