"""Supervision of the heart-rate stream: observe -> judge -> act, each usable without Airflow."""
