"""Pure logic: values in, values out. Nothing here opens a socket, starts a process or imports an SDK."""
