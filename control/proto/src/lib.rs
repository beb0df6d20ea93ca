//! What goes over the socket: ipvsadm's grammar, requests, replies, listings.
