# env-credentials.hcl without its template: the application reads through the listener instead.
vault {
  address = "https://vault.shared.cwiq.io"
}

auto_auth {
  method "approle" {
    config = {
      role_id_env_var   = "VAULT_ROLE_ID"
      secret_id_env_var = "VAULT_SECRET_ID"
    }
  }

  sink "file" {
    config = {
      path = "/vault/secrets/.vault-token"
    }
  }
}

api_proxy {
  use_auto_auth_token = true
}

cache {}

listener "tcp" {
  address     = "127.0.0.1:8201"
  tls_disable = true
}
