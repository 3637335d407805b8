# Leasehold's configuration, all of it. What is commented out by a `#` without a blank behind it is the default.
# Vault Agent's files are read as they are: HCL like this, or JSON.
# Try a file without starting anything: leasehold check -config=config/leasehold.hcl

# The Vault that is talked to. VAULT_ADDR, VAULT_NAMESPACE, VAULT_CACERT and their like go before these keys,
# and flags go before both.
vault {
  address = "https://vault.example:8200"

  # How long a forwarded request waits for the head of its answer; an upload that moves may take longer.
  #timeout = "60s"
  # Connections to Vault at once, for all callers together.
  #max_connections = 64
  # Danger: with true, anybody on the way can read and change everything.
  #tls_skip_verify = false
  # retry { num_retries = 12 } is read and warned about: this version does not retry requests.

  # A socket of this machine: address = "unix:///run/vault.sock", or "unix://@name" for an abstract one.

  # Without a default; files are read anew for the next connection when they change:
  # namespace       = "team/app"       of Leasehold's own calls: login and renewals
  # ca_cert         = "/etc/ssl/vault-ca.pem"
  # ca_path         = "/etc/ssl/vault-cas"
  # client_cert     = "/etc/leasehold/client.pem"
  # client_key      = "/etc/leasehold/client.key"
  # tls_server_name = "vault.internal"
  # http_proxy      = "http://proxy.example:3128"
}

# How Leasehold logs in.
auto_auth {
  method "approle" {
    config = {
      # Or from the environment: role_id_env_var = "ROLE_ID" and secret_id_env_var = "SECRET_ID".
      role_id_file_path   = "/etc/leasehold/role-id"
      secret_id_file_path = "/etc/leasehold/secret-id"

      #remove_secret_id_file_after_reading = true

      # For a response-wrapped secret id, the path that must have made it:
      # secret_id_response_wrapping_path = "auth/approle/role/app/secret-id"
    }

    #mount_path = "auth/approle"
    # The first and the longest wait between failed logins.
    #min_backoff = "1s"
    #max_backoff = "5m"
    # End with an error at the first failed login.
    #exit_on_err = false
  }

  # A file that always holds the current token.
  sink "file" {
    config = {
      path = "/run/leasehold/token"

      #mode = "0640"

      # The owner, by number; the file's own when left out.
      # uid = 1000
      # gid = 1000
    }
  }
}

# Who gets Leasehold's token: true is callers without a token of their own, "force" is everybody.
api_proxy {
  use_auto_auth_token = true
  # May callers without a token of their own make child tokens of Leasehold's?
  #allow_child_tokens = false
}

# Without this block everything is forwarded and nothing remembered.
cache {
  # Bytes of answers and keys.
  #max_size = "64MiB"
  # Identical logins share one answer.
  #logins = true
  # So do identical calls of auth/token/create.
  #token_create = false

  # KV secrets and the like, which have no lease.
  #static_secrets {
  #  enabled   = true
  #  ttl       = "5m"
  #  max_stale = "0s"
  #}

  #leases {
  #  # Renew after this part of what was granted,
  #  renew_at = 0.75
  #  # replace after this part of what is left when it cannot be renewed any more.
  #  replace_at = 0.85
  #  # Nobody gets a credential with less life than this left.
  #  min_remaining = "10s"
  #  # Revoke what nobody used for idle_ttl: a duration, one TTL of the lease when left out.
  #  revoke_idle = false
  #  # Revoke everything that Leasehold fetched when it stops.
  #  revoke_on_exit = false
  #}

  # The first rule that matches decides; * is any text. mode is bypass, static or leased.
  # path "database/creds/one-shot" { mode = "bypass" }
  # path "secret/data/hot/*"       { ttl = "30s" }
}

# Where callers come in. Several may be given.
listener "tcp" {
  address = "127.0.0.1:8201"
  # Without this, and with the two files below, callers have to speak TLS.
  tls_disable = true
  # tls_cert_file = "/etc/leasehold/tls.crt"
  # tls_key_file  = "/etc/leasehold/tls.key"
  # tls12 or tls13
  # tls_min_version = "tls12"
  # tls_max_version = "tls13"
  # By Go's names; those of TLS 1.3 are always on.
  # tls_cipher_suites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
  # tls_key_exchange_preferences = "X25519,CurveP256,CurveP384"
  # Who may come in: with the authority alone a certificate that is shown must be good, with both one must be shown.
  # tls_client_ca_file = "/etc/leasehold/clients.pem"
  # tls_require_and_verify_client_cert = true
  # All three files are looked at this often, and at SIGHUP. What cannot be served keeps what was.
  # tls_auto_reload_interval = "30s"

  # "metrics_only" serves metrics, health and ready under /agent/v1/, and nothing else.
  #role = "default"
  # Answer 412 to requests without X-Vault-Request: true.
  #require_request_header = false
  # Names in Host that are answered beside localhost and the loopback addresses; "*" is any. A listener that is
  # neither on loopback nor systemd's answers any unless told otherwise.
  #allowed_hosts = ["localhost"]
  # Bytes of a request's body; -1 for no limit.
  #max_request_size = 33554432
  # How long a body may be waited for, a second more for each KiB that has come.
  #http_read_timeout = "30s"
  #http_read_header_timeout = "10s"
  #http_idle_timeout = "5m"
  #max_connections = 1024
  #agent_api {
  #  # POST /agent/v1/quit stops Leasehold.
  #  enable_quit = false
  #}
}

# For callers on this machine, and only those whom the socket's mode and the lists let in. The address is a path, "@name" (abstract),
# "systemd" or "systemd:NAME" (a socket that systemd passes); the mode is 0600 unless given, 0660 with a socket_group.
# listener "unix" {
# address      = "/run/leasehold/vault.sock"
# socket_mode  = "0660"
# socket_user  = "leasehold"
# socket_group = "app"
# allowed_uids = [1000, "app"]
# allowed_gids = ["app"]
# }

# The most that Leasehold itself asks of Vault (logins, renewals, replacements): calls per second, and at once.
#background {
#  rate  = 10
#  burst = 20
#}

# trace, debug, info, warn or error
#log_level = "info"
# standard or json
#log_format = "standard"
# Beside standard error; a path with a slash at its end is a directory.
# log_file = "/var/log/leasehold/"
# pid_file = "/run/leasehold/pid"

# End once the first token is in every sink.
#exit_after_auth = false
# How long a stop may take, running requests included.
#shutdown_timeout = "10s"
# How long a request waits for the first login before it is answered with 503.
#startup_wait = "5s"
#worker_threads = 1
