"""Helpers of the course on images that are larger than memory."""
