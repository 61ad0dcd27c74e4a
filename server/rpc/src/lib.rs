//! JSON-RPC 1.0 byte streams over unix and TCP sockets.
