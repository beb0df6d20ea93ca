//! Direct routing: a new envelope, one hop older. The real server answers the client itself.
//!
//! in   [ client MAC > ours      | client > VIP:vport  ttl n   ]
//! out  [ ours > the real's MAC  | client > VIP:vport  ttl n-1 ]   IPv4 header checksum patched
