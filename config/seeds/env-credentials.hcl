# A sidecar whose AppRole credentials come with its environment, and one template.
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

template {
  source      = "/vault/templates/.env.tpl"
  destination = "/vault/secrets/.env"
  perms       = "0640"
}
