"""Training of mdrun's teachers and students, and the measures they are judged by."""
