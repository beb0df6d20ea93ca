//! What an operator may type in the midst of it all, in ipvsadm's words.

use config::model::SchedulerKind;

use super::world::{LOCALS, LOCALS_V6, MARKS, PORTS, REALS, REALS_V6, VIPS, VIPS_V6};
use crate::input::Input;

/// Tunables with values that change something.
const SYSCTLS: [(&str, &[&str]); 15] = [
    ("conn_reuse_mode", &["0", "1", "2", "3"]),
    ("expire_nodest_conn", &["0", "1"]),
    ("expire_quiescent_template", &["0", "1"]),
    ("lblc_expiration", &["0", "1", "86400"]),
    ("lblcr_expiration", &["0", "1", "86400"]),
    ("nat_icmp_send", &["0", "1"]),
    ("pmtu_disc", &["0", "1"]),
    ("sloppy_tcp", &["0", "1"]),
    ("am_droprate", &["1", "2", "10"]),
    ("amemthresh", &["0", "8", "1024"]),
    ("drop_entry", &["0", "1", "2", "3"]),
    ("drop_packet", &["0", "1", "2", "3"]),
    ("schedule_icmp", &["0", "1"]),
    ("tcp_reset", &["0", "1"]),
    ("sloppy_sctp", &["0", "1"]),
];

/// A command that sets a tunable.
pub(crate) fn sysctl(input: &mut Input<'_>) -> Vec<String> {
    let (name, values) = input.pick(&SYSCTLS);
    let value = input.pick(values);
    vec!["sysctl".to_owned(), format!("{name}={value}")]
}

/// One command's words.
pub(crate) fn command(input: &mut Input<'_>) -> Vec<String> {
    let words = match input.below(16) {
        0..=2 => add_service("-A", input),
        3..=5 => edited(input),
        6..=9 => real("-a", input),
        10 | 11 => real("-e", input),
        12 => with_real("-d", input),
        13 => local(input),
        14 => timeouts(input),
        _ => other(input),
    };
    words.split(' ').map(str::to_owned).collect()
}

/// Several commands, for `-R`.
pub(crate) fn batch(input: &mut Input<'_>) -> String {
    let lines = (0..1 + input.below(4)).map(|_| command(input).join(" ") + "\n");
    lines.collect()
}

/// A service with real servers that suit it, for `-R`.
pub(crate) fn whole(input: &mut Input<'_>) -> String {
    let (service, v6) = service(input);
    let mut lines = with_options("-A", &service, v6, input) + "\n";
    let port = input.pick(&PORTS);
    // IPv6 clients' real servers in IPv4, each in FULLNAT.
    let across = v6 && input.one_in(3);
    for _ in 0..1 + input.below(3) {
        let real = if v6 && !across {
            format!("[{}]:{port}", input.pick(&REALS_V6))
        } else {
            format!("{}:{port}", input.pick(&REALS))
        };
        let words = format!("-a {service} -r {real}");
        lines += &match across {
            true => words + " -b",
            false => described(words, input),
        };
        lines += "\n";
    }
    if across || input.one_in(2) {
        let local = if v6 && !across {
            LOCALS_V6[0]
        } else {
            LOCALS[0]
        };
        lines += &format!("-P {service} -z {local} -F lan\n");
    }
    lines
}

fn edited(input: &mut Input<'_>) -> String {
    match input.below(4) {
        3 => format!("-D {}", service(input).0),
        _ => add_service("-E", input),
    }
}

fn other(input: &mut Input<'_>) -> String {
    let all = [
        "-Ln",
        "-Sn",
        "-C",
        "-Ln --stats",
        "-Z",
        "-Lnc",
        "-G",
        "-L --timeout",
        "-Ln --rate",
        "-Ln --thresholds",
        "-Ln --persistent-conn",
    ];
    input.pick(&all).to_owned()
}

/// The words for a service, and whether it is IPv6's.
fn service(input: &mut Input<'_>) -> (String, bool) {
    let v6 = input.one_in(3);
    let sctp = "--sctp-service";
    let protocol = input.pick(&["-t", "-t", "-u", "-f", "-t", sctp, "-u", "-f"]);
    if protocol == "-f" {
        let family = if v6 { " -6" } else { "" };
        return (format!("-f {}{family}", input.pick(&MARKS)), v6);
    }
    let port = input.pick(&PORTS);
    let words = if v6 {
        format!("{protocol} [{}]:{port}", input.pick(&VIPS_V6))
    } else {
        format!("{protocol} {}:{port}", input.pick(&VIPS))
    };
    (words, v6)
}

fn add_service(verb: &str, input: &mut Input<'_>) -> String {
    let (service, v6) = service(input);
    with_options(verb, &service, v6, input)
}

fn with_options(verb: &str, service: &str, v6: bool, input: &mut Input<'_>) -> String {
    let scheduler = input.pick(&SchedulerKind::ALL);
    let mut words = format!("{verb} {service} -s {scheduler}");
    if input.one_in(3) {
        words += &format!(" -p {}", input.pick(&["360", "1", "5", "5000"]));
        let masks = if v6 {
            ["128", "64", "1"]
        } else {
            ["255.255.255.255", "255.255.255.0", "0.0.0.7"]
        };
        if input.one_in(2) {
            words += &format!(" -M {}", input.pick(&masks));
        }
    }
    if input.one_in(8) {
        words += " -o";
    }
    if input.one_in(4) {
        words += match scheduler {
            SchedulerKind::Sh => input.pick(&[" -b sh-port", " -b sh-fallback"]),
            SchedulerKind::Mh => input.pick(&[" -b mh-port", " -b mh-fallback,mh-port"]),
            _ => input.pick(&[
                " -b flag-3",
                " --client-address toa",
                " --proxy-protocol v1",
                " --proxy-protocol v2",
                " --proxy-protocol v1-insecure",
                " --proxy-protocol v2-insecure",
            ]),
        };
    }
    words
}

fn with_real(verb: &str, input: &mut Input<'_>) -> String {
    let (service, v6) = service(input);
    let port = input.pick(&PORTS);
    // Tunnels lead to the other family, too.
    if v6 ^ input.one_in(8) {
        format!("{verb} {service} -r [{}]:{port}", input.pick(&REALS_V6))
    } else {
        format!("{verb} {service} -r {}:{port}", input.pick(&REALS))
    }
}

fn real(verb: &str, input: &mut Input<'_>) -> String {
    described(with_real(verb, input), input)
}

fn described(mut words: String, input: &mut Input<'_>) -> String {
    words += input.pick(&[" -g", " -m", " -i", " -b", ""]);
    if words.ends_with("-i") {
        words += tunnel(input);
    }
    words += &format!(" -w {}", input.pick(&["1", "0", "2", "65535", "100"]));
    if input.one_in(4) {
        words += &format!(" -x {} -y {}", input.below(4), input.below(3));
    }
    words
}

fn tunnel(input: &mut Input<'_>) -> &'static str {
    input.pick(&[
        " --tun-type ipip",
        " --tun-type gue --tun-port 6080 --tun-nocsum",
        " --tun-type gue --tun-port 6080 --tun-csum",
        " --tun-type gue --tun-port 6080 --tun-remcsum",
        " --tun-type gre --tun-nocsum",
        " --tun-type gre --tun-csum",
    ])
}

fn local(input: &mut Input<'_>) -> String {
    let verb = input.pick(&["-P", "-P", "-Q"]);
    let (service, v6) = service(input);
    let address = if v6 {
        let [one, two] = LOCALS_V6;
        input.pick(&[one, two, LOCALS[0], LOCALS[1]])
    } else {
        input.pick(&LOCALS)
    };
    format!("{verb} {service} -z {address} -F lan")
}

fn timeouts(input: &mut Input<'_>) -> String {
    let mut one = || input.pick(&["0", "1", "5", "900"]);
    format!("--set {} {} {}", one(), one(), one())
}
