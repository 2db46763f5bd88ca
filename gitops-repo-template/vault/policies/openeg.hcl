# What OpenEG's services may read: the settings of their databases, and nothing else.
# The mount is `openeg` (KV version 2), the key `data/databases/mongodb`: hence `data` twice.
path "openeg/data/data/databases/*" {
  capabilities = ["read"]
}
