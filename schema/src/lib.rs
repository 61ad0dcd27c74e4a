//! The data model and notation of OVSDB (RFC 7047).
