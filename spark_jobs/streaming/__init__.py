"""The always-on heart-rate stream."""
