"""Runs started by others: files for Airflow, Kubeflow Pipelines, Kubernetes, cron, systemd. Texts alone."""
