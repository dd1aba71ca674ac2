"""Stages: one batch of photos in, better photos out."""
