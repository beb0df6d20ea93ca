//! A lab in which the client is on a subnet of its own, so that the director routes.
//!
//! ```text
//!   client               director                          real 1 .. n
//!   eth0 10.84.0.10 ---- br0 ==== 10.84.0.2, 10.83.0.2 ---- eth0 10.83.0.21 ..
//!        fd84::10                 fd84::2,   fd83::2             fd83::21 ..
//! ```
//!
//! One cable, one port: the director is one-armed, and every packet leaves by the port it came
//! in on.

use crate::lab::{self, CLIENT, Lab, run};
use crate::runner::{Failure, Outcome};

/// An address family, with the lab's addresses of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The one of two that is of this family.
    pub(crate) fn of<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// The virtual address, on the client's subnet.
    pub(crate) fn vip(self) -> &'static str {
        self.of("10.84.0.100", "fd84::100")
    }

    /// The client.
    pub(crate) fn client(self) -> &'static str {
        self.of("10.84.0.10", "fd84::10")
    }

    /// The director on the real servers' subnet.
    pub(crate) fn inside(self) -> &'static str {
        self.of(lab::DIP, "fd83::2")
    }

    /// FULLNAT's source addresses.
    pub(crate) fn locals(self) -> [&'static str; 2] {
        self.of(["10.83.0.50", "10.83.0.51"], ["fd83::50", "fd83::51"])
    }

    /// A real server, counted from 1.
    pub(crate) fn real(self, index: usize) -> String {
        self.of(lab::real_address(index), format!("fd83::{}", 20 + index))
    }

    fn client_net(self) -> &'static str {
        self.of("10.84.0.0/24", "fd84::/64")
    }

    /// An address as it stands before a port.
    pub(crate) fn host(self, address: &str) -> String {
        self.of(address.to_owned(), format!("[{address}]"))
    }
}

/// The port's addresses.
pub(crate) fn port_addresses() -> Vec<String> {
    let mut all = vec![format!("{}/24", lab::DIP), "10.84.0.2/24".to_owned()];
    if lab::has_ipv6() {
        all.extend(["fd83::2/64", "fd84::2/64"].map(str::to_owned));
    }
    all
}

/// The lab, with web servers.
///
/// # Errors
///
/// What the system refused; it has no IPv6.
pub(crate) fn lab(reals: usize) -> Result<Lab, Failure> {
    let lab = Lab::with_web(reals)?;
    let client = lab.client();
    Lab::ip(&client, &format!("addr del {CLIENT}/24 dev eth0"))?;
    Lab::ip(&client, "addr add 10.84.0.10/24 dev eth0")?;
    if lab::has_ipv6() {
        enable_ipv6(&client, "eth0", "fd84::10/64")?;
        for index in 1..=reals {
            let address = format!("{}/64", Family::V6.real(index));
            enable_ipv6(&lab.real(index), "eth0", &address)?;
        }
    }
    Ok(lab)
}

/// Gives an interface an IPv6 address, which its namespace then speaks.
pub(crate) fn enable_ipv6(namespace: &str, interface: &str, address: &str) -> Result<(), String> {
    for interface in ["all", "lo", interface] {
        let path = format!("ipv6/conf/{interface}/disable_ipv6");
        Lab::setting(namespace, &path, 0)?;
    }
    Lab::ip(
        namespace,
        &format!("addr add {address} dev {interface} nodad"),
    )
    .map(drop)
}

/// The client's subnet is reached through the director: what NAT needs.
pub(crate) fn route_back(lab: &Lab, index: usize, family: Family) -> Outcome {
    let (net, via) = (family.client_net(), family.inside());
    Lab::ip(&lab.real(index), &format!("route add {net} via {via}"))?;
    Ok(())
}

/// A real server with the VIP that unwraps packets from the director and answers the client
/// itself.
pub(crate) fn unwrap(lab: &mut Lab, index: usize, inner: Family, outer: Family) -> Outcome {
    unwrap_only(lab, index, inner, outer)?;
    hold_vip(lab, index, inner)
}

/// A real server that unwraps packets from the director.
pub(crate) fn unwrap_only(lab: &mut Lab, index: usize, inner: Family, outer: Family) -> Outcome {
    let namespace = lab.real(index);
    lab.start_peer(&namespace, &["decapsulate", outer.inside(), "decap0"])?;
    Lab::ip(&namespace, "link set decap0 up")?;
    if inner == Family::V6 {
        Lab::setting(&namespace, "ipv6/conf/decap0/disable_ipv6", 0)?;
    }
    for interface in ["all", "decap0"] {
        Lab::setting(&namespace, &format!("ipv4/conf/{interface}/rp_filter"), 0)?;
    }
    Ok(())
}

/// A real server has the VIP and answers the client itself.
pub(crate) fn hold_vip(lab: &Lab, index: usize, family: Family) -> Outcome {
    let (length, vip, net) = (family.of(32, 128), family.vip(), family.client_net());
    let namespace = lab.real(index);
    Lab::ip(&namespace, &format!("addr add {vip}/{length} dev lo"))?;
    Lab::ip(&namespace, &format!("route add {net} dev eth0"))?;
    Ok(())
}

/// 10 MB there and back through the VIP, and the same each time.
pub(crate) fn large_bodies(lab: &Lab, url: &str) -> Outcome {
    let body: Vec<u8> = (0..10_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let (file, back) = (lab.file("body"), lab.file("back"));
    std::fs::write(&file, &body)?;
    let there = format!("{url}files/stored");
    let curl = |option: &str, path: &std::path::Path| {
        let mut command = Lab::inside(&lab.client(), "curl");
        command.args(["-sS", "--fail", "--max-time", "60", option]);
        run(command.arg(path).arg(&there))
    };
    curl("--upload-file", &file)?;
    curl("--output", &back)?;
    if std::fs::read(lab.file("files/stored"))? != body {
        return Err(Failure::Wrong(
            "the server stored something else".to_owned(),
        ));
    }
    if std::fs::read(&back)? != body {
        return Err(Failure::Wrong("the download differs".to_owned()));
    }
    Ok(())
}
