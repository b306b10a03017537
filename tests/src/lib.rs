//! The lab: namespaces, veth, cgroups, servers and clients as guards.
