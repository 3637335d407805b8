# practical-patterns.hcl without its template.
vault {
  address = "https://vault.example.com:8200"
  tls_skip_verify = false
}

auto_auth {
  method "approle" {
    mount_path = "auth/approle"
    config = {
      role_id_file_path   = "/etc/vault/role_id"
      secret_id_file_path = "/etc/vault/secret_id"
    }
  }

  sink "file" {
    config = {
      path = "/run/vault/token"
      mode = "0640"
    }
  }
}

cache {
  use_auto_auth_token = true
}

# ローカルHTTPプロキシ(必要に応じて)。
listener "tcp" {
  address     = "127.0.0.1:8201"
  tls_disable = true
}
