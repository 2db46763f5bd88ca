# What differs from pod to pod (its addresses, its raft name) comes from the StatefulSet's environment.
cluster_name = "openeg"

# Raft storage maps its files into memory: locking all of it would need as much memory as there is data.
# The nodes must have no swap, as Kubernetes wants it anyway.
disable_mlock = true

# The command line and the API do all of it; a login page would be one more thing to guard.
ui = false

listener "tcp" {
  address         = "[::]:8200"
  cluster_address = "[::]:8201"
  tls_cert_file   = "/vault/tls/tls.crt"
  tls_key_file    = "/vault/tls/tls.key"
  tls_min_version = "tls13"

  telemetry {
    # Prometheus has no token here; the metrics name paths and counts, never values.
    unauthenticated_metrics_access = true
  }
}

storage "raft" {
  path = "/vault/data"

  # With one replica the two others are never found, and nothing waits for them.
  retry_join {
    leader_api_addr     = "https://vault-0.vault-internal.vault-system.svc:8200"
    leader_ca_cert_file = "/vault/tls/ca.crt"
  }
  retry_join {
    leader_api_addr     = "https://vault-1.vault-internal.vault-system.svc:8200"
    leader_ca_cert_file = "/vault/tls/ca.crt"
  }
  retry_join {
    leader_api_addr     = "https://vault-2.vault-internal.vault-system.svc:8200"
    leader_ca_cert_file = "/vault/tls/ca.crt"
  }
}

telemetry {
  prometheus_retention_time = "24h"
  disable_hostname          = true
}
