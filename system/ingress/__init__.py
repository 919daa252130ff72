"""The NGINX configuration."""
