"""The Kubernetes target: whatever cluster KUBECONFIG names."""
