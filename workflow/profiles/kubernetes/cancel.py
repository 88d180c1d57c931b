"""Jobs of a killed run in this folder, waiting or at work, are deleted before the next: their steps are its own."""

from pathlib import Path

import yaml
from kubernetes import client, config

settings = yaml.safe_load(Path(__file__).with_name("config.yaml").read_text(encoding="utf-8"))
namespace, folder = settings["kubernetes-namespace"], settings["default-storage-prefix"]
config.load_config()
batch = client.BatchV1Api()
for job in batch.list_namespaced_job(namespace, label_selector="app=snakemake").items:
    if f"--default-storage-prefix '{folder}'" in " ".join(job.spec.template.spec.containers[0].args):
        batch.delete_namespaced_job(job.metadata.name, namespace, propagation_policy="Foreground")
