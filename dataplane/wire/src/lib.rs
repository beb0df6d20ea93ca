//! Packet headers as checked views over borrowed bytes.
