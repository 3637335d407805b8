# A pod that logs in by its service account and renders database credentials.
vault {
address = "https://vault.internal:8200"
}
auto_auth {
method "kubernetes" {
mount_path = "auth/kubernetes"
config = {
role = "app-service-role"
}
}
sink "file" {
config = {
path = "/var/run/secrets/vault-token"
}
}
}
template {
destination = "/etc/secrets/db-creds"
contents = <<EOF
{{ with secret "database/creds/app-readonly" }}
DB_USER={{ .Data.username }}
DB_PASS={{ .Data.password }}
DB_LEASE_ID={{ .Data.lease_id }}
DB_TTL={{ .Data.lease_duration }}
{{ end }}
EOF
refresh_interval = "5m"
}
