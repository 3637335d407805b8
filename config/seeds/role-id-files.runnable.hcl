# The sidecar described for Authentik: credentials laid out as files, the secret id used again at each login.
vault {
  address = "https://vault.shared.cwiq.io"
}

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/vault/config/role-id"
      secret_id_file_path                 = "/vault/config/secret-id"
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
}

listener "tcp" {
  address     = "127.0.0.1:8201"
  tls_disable = true
}
