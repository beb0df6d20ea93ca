//! How ipvsadm writes addresses, ports, masks and numbers (reference: inet_aton(3), strtol(3)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use config::model::Protocol;

use crate::names::Names;

/// Reads `a.b.c.d`, `a.b.c.d:port`, `host`, `host:service`, `[v6]:port` or a bare IPv6 address.
///
/// Without a port the second value is absent. `protocol` is what a service's name belongs to.
pub(crate) fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(IpAddr, Option<u16>)> {
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let (address, port) = split(text, names)?;
    match port {
        None => Some((address, None)),
        Some(port) => Some((address, Some(port_number(port, protocol, names)?))),
    }
}

fn split<'a>(text: &'a str, names: &dyn Names) -> Option<(IpAddr, Option<&'a str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once("]:")?;
        return Some((address.parse::<Ipv6Addr>().ok()?.into(), Some(port)));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((address.into(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    Some((host_address(host, names)?, port))
}

fn host_address(host: &str, names: &dyn Names) -> Option<IpAddr> {
    dotted(host)
        .map(IpAddr::V4)
        .or_else(|| names.host(host).filter(IpAddr::is_ipv4))
}

fn port_number(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0, u16::MAX.into()) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port(text, protocol?),
    }
}

/// An IPv4 address as inet_aton reads it: one to four parts, the last one filling what is left,
/// each decimal, octal (`0...`) or hexadecimal (`0x...`). `10.0.0` is 10.0.0.0, `24` is 0.0.0.24.
pub(crate) fn dotted(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (&last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|&part| part > 255) {
        return None;
    }
    let mut bits: u32 = 0;
    for (shift, part) in [24, 16, 8].into_iter().zip(leading) {
        bits |= part << shift;
    }
    let room = u32::MAX.checked_shr(8 * u32::try_from(leading.len()).ok()?)?;
    (last <= room).then(|| Ipv4Addr::from_bits(bits | last))
}

fn part(text: &str) -> Option<u32> {
    if text.starts_with('+') {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return if hex.starts_with('+') {
            None
        } else {
            u32::from_str_radix(hex, 16).ok()
        };
    }
    let radix = if text.len() > 1 && text.starts_with('0') {
        8
    } else {
        10
    };
    u32::from_str_radix(text, radix).ok()
}

/// A decimal number as strtol reads it, white space and a sign before it, nothing behind it, and
/// within the bounds.
pub(crate) fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    let space = |c: char| matches!(c, ' ' | '\t'..='\r');
    let number: i64 = text.trim_start_matches(space).parse().ok()?;
    u32::try_from(number)
        .ok()
        .filter(|number| (least..=most).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::fixed::Fixed;

    #[test]
    fn endpoints() {
        #[rustfmt::skip]
        let cases = [
            ("10.0.0.1:80",        Some(("10.0.0.1", Some(80)))),
            ("10.0.0.1",           Some(("10.0.0.1", None))),
            ("10.0.0:80",          Some(("10.0.0.0", Some(80)))),
            ("10.0.0.1:http",      Some(("10.0.0.1", Some(80)))),
            ("10.0.0.1:0",         Some(("10.0.0.1", Some(0)))),
            ("web1:http",          Some(("10.0.0.11", Some(80)))),
            ("web1",               Some(("10.0.0.11", None))),
            ("[2001:db8::1]:443",  Some(("2001:db8::1", Some(443)))),
            ("2001:db8::1",        Some(("2001:db8::1", None))),
            ("::1",                Some(("::1", None))),
            ("[2001:db8::1]",      None),
            ("[2001:db8::1",       None),
            ("[10.0.0.1]:80",      None),
            ("10.0.0.1:",          None),
            ("10.0.0.1:65536",     None),
            ("10.0.0.1:-1",        None),
            ("10.0.0.1:nowhere",   None),
            ("10.0.0.256:80",      None),
            ("1.2.3.4.5:80",       None),
            ("elsewhere:80",       None),
            ("1234",               None),
            ("",                   None),
            (":80",                None),
        ];
        for (text, want) in cases {
            let want = want.map(|(address, port)| (address.parse().unwrap(), port));
            assert_eq!(endpoint(text, Some(Protocol::Tcp), &Fixed), want, "{text}");
        }
    }

    #[test]
    fn dotted_masks() {
        #[rustfmt::skip]
        let cases = [
            ("255.255.255.0", Some([255, 255, 255, 0])),
            ("24",            Some([0, 0, 0, 24])),
            ("10.1",          Some([10, 0, 0, 1])),
            ("0xffffff00",    Some([255, 255, 255, 0])),
            ("010.0.0.1",     Some([8, 0, 0, 1])),
            ("10.256.1",      None),
            ("10.0.0.08",     None),
            ("1.2.3.",        None),
            ("4294967296",    None),
            ("-1",            None),
        ];
        for (text, want) in cases {
            assert_eq!(dotted(text), want.map(Ipv4Addr::from), "{text}");
        }
    }

    #[test]
    fn numbers() {
        #[rustfmt::skip]
        let cases = [
            ("0", Some(0)), ("100", Some(100)), (" 7", Some(7)), ("+7", Some(7)), ("-0", Some(0)),
            ("101", None), ("-1", None), ("7 ", None), ("0x7", None), ("", None),
            ("99999999999999999999", None),
        ];
        for (text, want) in cases {
            assert_eq!(number(text, 0, 100), want, "{text:?}");
        }
    }
}
