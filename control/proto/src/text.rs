//! How the model's types are written in JSON: as they are written in the TOML file.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use config::model::{
    ClientAddress, Endpoint, Family, Listen, Mode, PersistenceMask, Protocol, SchedulerKind,
    Tunnel, TunnelChecksum,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A type of the model that has one written form.
pub(crate) trait Written: Sized {
    /// The written form.
    fn write(&self) -> String;
    /// Reads what [`Written::write`] made.
    fn read(text: &str) -> Option<Self>;
}

/// `#[serde(with = "text::written")]` for any [`Written`].
pub(crate) mod written {
    use super::*;

    pub(crate) fn serialize<T: Written, S: Serializer>(it: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&it.write())
    }

    pub(crate) fn deserialize<'de, T: Written, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        T::read(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not understood")))
    }
}

fn show(it: &impl Display) -> String {
    it.to_string()
}

impl Written for Listen {
    fn write(&self) -> String {
        show(self)
    }

    fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        if kind == "fwm" {
            return read_mark(rest);
        }
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|protocol| protocol.name() == kind)?;
        let Endpoint { address, port } = Endpoint::read(rest)?;
        Some(Self::Address {
            protocol,
            address,
            port,
        })
    }
}

fn read_mark(text: &str) -> Option<Listen> {
    let (mark, family) = match text.strip_suffix(" ipv6") {
        Some(mark) => (mark, Family::V6),
        None => (text, Family::V4),
    };
    Some(Listen::Mark {
        mark: mark.parse().ok()?,
        family,
    })
}

impl Written for ClientAddress {
    fn write(&self) -> String {
        self.name().to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        let (_, way) = names.find(|(name, _)| *name == text)?;
        Some(*way)
    }
}

impl Written for Endpoint {
    fn write(&self) -> String {
        show(self)
    }

    fn read(text: &str) -> Option<Self> {
        let at: SocketAddr = text.parse().ok()?;
        Some(Self {
            address: at.ip(),
            port: at.port(),
        })
    }
}

impl Written for SchedulerKind {
    fn write(&self) -> String {
        show(self)
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Written for PersistenceMask {
    fn write(&self) -> String {
        match self {
            Self::V4(mask) => mask.to_string(),
            Self::V6(length) => length.to_string(),
        }
    }

    fn read(text: &str) -> Option<Self> {
        if let Ok(IpAddr::V4(mask)) = text.parse() {
            return Some(Self::V4(mask));
        }
        text.parse()
            .ok()
            .filter(|length| (1..=128).contains(length))
            .map(Self::V6)
    }
}

/// [`Mode`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "lowercase")]
pub(crate) enum ModeText {
    Dr,
    Tun(#[serde(with = "TunnelText")] Tunnel),
    Nat,
    FullNat,
}

/// [`Tunnel`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Tunnel", rename_all = "lowercase", tag = "type")]
enum TunnelText {
    Ipip,
    Gue {
        port: u16,
        #[serde(with = "ChecksumText")]
        checksum: TunnelChecksum,
    },
    Gre {
        #[serde(with = "ChecksumText")]
        checksum: TunnelChecksum,
    },
}

/// [`TunnelChecksum`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "TunnelChecksum")]
enum ChecksumText {
    #[serde(rename = "none")]
    None,
    #[serde(rename = "csum")]
    Sum,
    #[serde(rename = "remcsum")]
    Remote,
}
