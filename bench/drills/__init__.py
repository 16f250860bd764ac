"""Fault drills of the heart-rate stream: break something under load, time the recovery, account for every reading."""
