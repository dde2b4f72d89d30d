//! Connection limits, slow clients, forwarded addresses, both HTTP versions.
