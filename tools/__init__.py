"""What authors and teachers need, run by course.py."""
