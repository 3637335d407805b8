# What the services of seed "Vault Integration" ask of their client library, done by a sidecar: cached for five
# minutes (VAULT_CACHE_TTL), renewed at 75 % of the TTL, logged in again by AppRole.
vault {
  address = "https://vault.example:8200"
  ca_cert = "/secrets/vault-ca.crt"
}

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/secrets/role-id"
      secret_id_file_path                 = "/secrets/secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

api_proxy {
  use_auto_auth_token = true
}

cache {
  static_secrets {
    ttl = "5m"
  }
  leases {
    renew_at = 0.75
  }
}

listener "tcp" {
  address     = "127.0.0.1:8201"
  tls_disable = true
}
